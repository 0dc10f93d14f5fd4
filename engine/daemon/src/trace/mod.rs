//! `POST /trace`: what would become of a packet here and now, and by what it is decided.
//!
//! The stages themselves are asked, in a thread of the control cores; see [`overlane_dataplane::trace`].

mod frame;

use crate::provisioning::model::Target;
use crate::runtime::Runtime;
use overlane_api::trace::{TraceAnswer, TraceFrame, TraceRequest, TraceStep};
use overlane_dataplane::id::{PortId, VnetId};
use overlane_dataplane::snapshot::{HostSnapshot, PortRole};
use overlane_dataplane::trace::{Fate, Object, Trace};
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Questions for the reconciler that wait.
const LOOKUPS: usize = 4;

/// The change that last touched something of the desired state.
#[derive(Debug)]
pub struct Lookup {
    /// Of what.
    pub of: Vec<Known>,
    /// Where the answers go, in the same order; `None`: there is no such thing.
    pub answer: oneshot::Sender<Vec<Option<u64>>>,
}

/// Something of the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// An interface, by its id.
    Interface(String),
    /// A vnet.
    Vnet(VnetId),
    /// A mapping.
    Mapping(Target),
}

/// Traces packets, one at a time.
#[derive(Debug, Clone)]
pub struct Tracer {
    runtime: Weak<Runtime>,
    lookups: mpsc::Sender<Lookup>,
    turn: Arc<Semaphore>,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The request makes no sense: the field, and what it must be.
    #[error("{field}: must be {legal}, not {given}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its legal values.
        legal: String,
        /// What came.
        given: String,
    },
    /// There is nothing to trace by now.
    #[error("the engine is shutting down, or not ready yet: {0}")]
    Unavailable(&'static str),
}

fn wrong(field: &'static str, legal: impl Into<String>, given: impl core::fmt::Display) -> TraceError {
    let given: String = given.to_string().chars().take(64).collect();
    TraceError::Field { field, legal: legal.into(), given: given.escape_debug().to_string() }
}

impl Tracer {
    /// A tracer, and where the reconciler gets its questions from.
    #[must_use]
    pub fn new(runtime: Weak<Runtime>) -> (Self, mpsc::Receiver<Lookup>) {
        let (lookups, receiver) = mpsc::channel(LOOKUPS);
        (Self { runtime, lookups, turn: Arc::new(Semaphore::new(1)) }, receiver)
    }

    /// What would become of a packet. `revision` is what the engine forwards by.
    ///
    /// # Errors
    /// [`TraceError`] naming the field that makes no sense.
    pub async fn trace(
        &self,
        request: TraceRequest,
        revision: Option<String>,
    ) -> Result<TraceAnswer, TraceError> {
        let _turn = self.turn.acquire().await.map_err(|_| TraceError::Unavailable("no more traces"))?;
        let runtime = self.runtime.upgrade().ok_or(TraceError::Unavailable("its workers have ended"))?;
        let traced = tokio::task::spawn_blocking(move || {
            runtime.trace(|snapshot| {
                let (port, frame) = frame::of(snapshot, &request)?;
                Ok((port, frame))
            })
        });
        let (trace, port, frame, names) =
            traced.await.map_err(|_| TraceError::Unavailable("the trace failed"))??;
        let revisions = self.revisions(&trace).await;
        Ok(answer(trace, revisions, (port, frame), &names, revision))
    }

    /// The revisions of what decided, one for each step.
    async fn revisions(&self, trace: &Trace) -> Vec<Option<u64>> {
        let of: Vec<Option<Known>> = trace.steps.iter().map(|step| known(step.object.as_ref())).collect();
        let (answer, answered) = oneshot::channel();
        let asked = Lookup { of: of.iter().flatten().cloned().collect(), answer };
        let found = match self.lookups.send(asked).await {
            Ok(()) => answered.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let mut found = found.into_iter();
        of.iter().map(|known| known.as_ref().and_then(|_| found.next().flatten())).collect()
    }
}

fn known(object: Option<&Object>) -> Option<Known> {
    match object? {
        Object::Interface(id) => Some(Known::Interface(id.clone())),
        Object::Vnet(id) => Some(Known::Vnet(*id)),
        Object::Mapping(vnet, ipv4) => Some(Known::Mapping(Target { vnet: *vnet, ipv4: *ipv4 })),
        // Rules carry theirs, and flows have none.
        Object::Rule(..) | Object::Flow => None,
    }
}

/// What ports are called.
#[derive(Debug)]
pub struct PortNames(Vec<Option<String>>);

impl PortNames {
    /// Those of a snapshot.
    #[must_use]
    pub fn of(snapshot: &HostSnapshot) -> Self {
        let name = |role: &PortRole| match role {
            PortRole::Absent => None,
            PortRole::Node(interface) => Some(interface.name.clone()),
            PortRole::Uplink(uplink) => Some(uplink.name.clone()),
        };
        Self(snapshot.ports.iter().map(name).collect())
    }

    fn name(&self, port: PortId) -> String {
        let known = self.0.get(port.index()).and_then(Clone::clone);
        known.unwrap_or_else(|| format!("port {port}"))
    }
}

fn answer(
    trace: Trace,
    revisions: Vec<Option<u64>>,
    (port, frame): (PortId, Vec<u8>),
    names: &PortNames,
    revision: Option<String>,
) -> TraceAnswer {
    let step = |(step, revision): (overlane_dataplane::trace::Step, Option<u64>)| {
        let (object, own) = match step.object {
            None => (None, None),
            Some(Object::Interface(id)) => (Some(format!("interface {id}")), None),
            Some(Object::Vnet(id)) => (Some(format!("vnet {id}")), None),
            Some(Object::Mapping(vnet, ipv4)) => (Some(format!("mapping of {ipv4} in vnet {vnet}")), None),
            Some(Object::Rule(id, revision)) => (Some(format!("rule {id}")), Some(revision)),
            Some(Object::Flow) => (Some("flow".to_owned()), None),
        };
        let (stage, decision) = (step.stage.to_owned(), step.decision);
        TraceStep { stage, decision, object, revision: own.or(revision) }
    };
    let told = |port: PortId, bytes: &[u8]| TraceFrame {
        port: names.name(port),
        headers: frame::headers(bytes),
        hex: frame::to_hex(bytes),
    };
    let (fate, reason) = match trace.fate {
        Fate::Sent => ("sent", None),
        Fate::Answered => ("answered", None),
        Fate::Punted => ("punted", None),
        Fate::AwaitsFragment => ("awaits_fragment", None),
        Fate::AwaitsMapping => ("awaits_mapping", None),
        Fate::Dropped(reason) => ("dropped", Some(reason.name().to_owned())),
    };
    TraceAnswer {
        fate: fate.to_owned(),
        reason,
        revision,
        steps: trace.steps.into_iter().zip(revisions).map(step).collect(),
        frame: told(port, &frame),
        frames: trace.frames.iter().map(|(port, bytes)| told(*port, bytes)).collect(),
    }
}
