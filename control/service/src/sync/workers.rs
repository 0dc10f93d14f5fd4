//! What engines' workers do: kept while their engine is connected, and nowhere but here.

use overlane_api::resource::{PacketCycles, WorkerStatus};
use overlane_api::sync::{WorkerReport, WorkersReport};
use tonic::Status;

/// The most workers that are taken from an engine: as many as the protocol has.
const MAX_WORKERS: usize = 1024;

/// The workers of one engine, as of its last report.
#[derive(Debug, Default)]
pub(super) struct Workers {
    last: Vec<WorkerReport>,
    status: Vec<WorkerStatus>,
}

impl Workers {
    /// Takes in a report; the first one counts from the engine's start.
    ///
    /// # Errors
    /// [`Status::invalid_argument`] when it has too many workers.
    pub(super) fn report(&mut self, report: WorkersReport) -> Result<(), Status> {
        let workers = report.workers;
        if workers.len() > MAX_WORKERS {
            let count = workers.len();
            return Err(Status::invalid_argument(format!(
                "WorkersReport of {count} workers; legal: up to {MAX_WORKERS}"
            )));
        }
        let none = WorkerReport::default();
        let status = workers.iter().enumerate().map(|(index, now)| {
            let before = self.last.get(index).filter(|before| before.core == now.core);
            let known = self.status.get(index).filter(|_| before.is_some());
            status(now, before.unwrap_or(&none), known.and_then(|known| known.cycles_per_packet))
        });
        self.status = status.collect();
        self.last = workers;
        Ok(())
    }

    /// How they are; empty before the first report.
    pub(super) fn status(&self) -> &[WorkerStatus] {
        &self.status
    }
}

/// A worker by two reports. Without packets between them, one cost what was `known`.
fn status(now: &WorkerReport, before: &WorkerReport, known: Option<PacketCycles>) -> WorkerStatus {
    // An engine may say anything: nothing overflows, and nothing is divided by zero.
    let between = |count: fn(&WorkerReport) -> u64| count(now).saturating_sub(count(before));
    let packets = between(|report| report.packets);
    let each = |cycles: u64| cycles.checked_div(packets);
    let cycles_per_packet = || {
        Some(PacketCycles {
            receive: each(between(|report| report.receive_cycles))?,
            classify: each(between(|report| report.classify_cycles))?,
            authorise: each(between(|report| report.authorise_cycles))?,
            translate: each(between(|report| report.translate_cycles))?,
            send: each(between(|report| report.send_cycles))?,
            total: each(between(|report| report.turn_cycles))?,
        })
    };
    let busy = u128::from(between(|report| report.busy_us)) * 1000;
    let permille = busy.checked_div(between(|report| report.total_us).into()).unwrap_or(0);
    WorkerStatus {
        core: now.core,
        packets: now.packets,
        busy_permille: permille.min(1000) as u32,
        cycles_per_packet: cycles_per_packet().or(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(packets: u64, cycles: u64, busy_us: u64, total_us: u64) -> WorkerReport {
        WorkerReport {
            core: 3,
            packets,
            receive_cycles: cycles / 4,
            classify_cycles: cycles / 4,
            authorise_cycles: cycles / 16,
            translate_cycles: cycles / 8,
            send_cycles: cycles / 8,
            turn_cycles: cycles,
            busy_us,
            total_us,
        }
    }

    fn told(workers: &mut Workers, reports: &[WorkerReport]) -> Vec<WorkerStatus> {
        workers.report(WorkersReport { workers: reports.to_vec() }).unwrap();
        workers.status().to_vec()
    }

    #[test]
    fn a_packet_costs_what_it_cost_between_the_last_two_reports_that_saw_some() {
        let mut workers = Workers::default();
        let cycles = |status: &[WorkerStatus]| status[0].cycles_per_packet.map(|cycles| cycles.total);
        assert_eq!(cycles(&told(&mut workers, &[report(0, 0, 0, 10)])), None);
        let first = told(&mut workers, &[report(10, 8_000, 100, 1_010)]);
        let wanted = PacketCycles {
            receive: 200,
            classify: 200,
            authorise: 50,
            translate: 100,
            send: 100,
            total: 800,
        };
        assert_eq!((first[0].cycles_per_packet, first[0].busy_permille), (Some(wanted), 100));
        // 90 more, 400 cycles each; then none, and busy all the time.
        assert_eq!(cycles(&told(&mut workers, &[report(100, 44_000, 100, 2_010)])), Some(400));
        let idle = told(&mut workers, &[report(100, 44_000, 1_100, 3_010)]);
        assert_eq!((cycles(&idle), idle[0].packets, idle[0].busy_permille), (Some(400), 100, 1_000));
    }

    #[test]
    fn senseless_numbers_do_no_harm() {
        let mut workers = Workers::default();
        told(&mut workers, &[report(u64::MAX, u64::MAX, u64::MAX, u64::MAX)]);
        let back = told(&mut workers, &[report(1, 1, u64::MAX, 1)]);
        assert_eq!((back[0].packets, back[0].busy_permille), (1, 0));
        // Another core is another worker: nothing is known of it.
        let other =
            told(&mut workers, &[WorkerReport { core: 4, busy_us: 9, total_us: 3, ..report(0, 0, 0, 0) }]);
        assert_eq!((other[0].cycles_per_packet, other[0].busy_permille), (None, 1_000));
    }

    #[test]
    fn too_many_workers_are_refused_and_what_was_known_stays() {
        let mut workers = Workers::default();
        told(&mut workers, &[report(1, 8, 1, 2)]);
        let many = WorkersReport { workers: vec![report(1, 8, 1, 2); MAX_WORKERS + 1] };
        let error = workers.report(many).unwrap_err();
        assert!(error.message().contains("legal: up to 1024"), "{error}");
        assert_eq!(workers.status().len(), 1);
    }
}
