//! Losses on the router: what nodes' kernels do about them shows that engines carry all of TCP.

use super::netns::{Namespace, run};
use anyhow::{Context, Result};

/// A random share of the TCP packets that a router sends to one device is lost, for as long as this lives.
///
/// It is a filter on the device and not network emulation (netem), which not every kernel has; the engines themselves
/// use filters of this kind.
#[derive(Debug)]
pub struct Loss {
    router: Namespace,
    device: String,
}

impl Loss {
    /// Has `router` lose one in `one_in` TCP packets on their way to `device`.
    ///
    /// # Errors
    /// If the kernel refuses the filter.
    pub fn start(router: &Namespace, device: &str, one_in: u32) -> Result<Self> {
        let loss = Self { router: router.clone(), device: device.to_owned() };
        run(loss.tc().args(["qdisc", "add", "dev", device, "clsact"]))?;
        let bound = u32::MAX / one_in.max(1);
        // Classic BPF, as bpf_asm would write it (Documentation/networking/filter.rst of Linux):
        //   ldh [12]; jne #0x86dd, pass; ldb [20]; jne #6, pass; ld rand; jge #bound, pass; ret #2; pass: ret #0
        // where 2 is TC_ACT_SHOT and 0 is TC_ACT_OK (linux/pkt_cls.h).
        let program = format!(
            "8,40 0 0 12,21 0 5 34525,48 0 0 20,21 0 3 6,32 0 0 4294963256,53 1 0 {bound},6 0 0 2,6 0 0 0"
        );
        run(loss
            .tc()
            .args(["filter", "add", "dev", device, "egress", "bpf", "direct-action", "bytecode"])
            .arg(program))?;
        Ok(loss)
    }

    /// Packets lost so far.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn lost(&self) -> Result<u64> {
        let text = run(self.tc().args(["-s", "-j", "qdisc", "show", "dev", &self.device]))?;
        let disciplines: serde_json::Value = serde_json::from_str(&text)?;
        let mut all = disciplines.as_array().into_iter().flatten();
        let ours = all.find(|discipline| discipline.get("kind").is_some_and(|kind| kind == "clsact"));
        ours.and_then(|ours| ours.get("drops")?.as_u64()).with_context(|| format!("no drops in {text}"))
    }

    fn tc(&self) -> std::process::Command {
        self.router.command("tc")
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        // What cannot be removed goes with the router.
        let _ = run(self.tc().args(["qdisc", "del", "dev", &self.device, "clsact"]));
    }
}
