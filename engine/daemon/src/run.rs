//! The engine's life: what is started in which order, what happens meanwhile, and how it ends.

use crate::adapter::{
    Running, RuntimeVitals, forward_failures, forward_hints, forward_links, forward_ports, forward_punts,
    forward_questions,
};
use crate::config::{Config, ProvisioningConfig, ServiceConfig, UplinkDevice};
use crate::events::EventLog;
use crate::kernel::{Kernel, Watch};
use crate::provisioning::desired::DesiredState;
use crate::provisioning::disk::{StateDirectory, Stored};
use crate::provisioning::model::{MAX_INTERFACES, Revision};
use crate::provisioning::sync::Client;
use crate::provisioning::{Applied, Connection, Event, file, resolve};
use crate::reconcile::{Inputs, Outputs, Reconciler, Settings};
use crate::runtime::{Cores, Runtime, RuntimeConfig};
use crate::telemetry::log::LogLevel;
use crate::telemetry::{Pulse, Telemetry};
use crate::trace::Tracer;
use anyhow::{Context, Result, bail};
use overlane_api::config::FileError;
use overlane_api::tls::Credentials;
use overlane_dataplane::address::Layout;
use overlane_dataplane::id::Slot;
use overlane_dataplane::table::mapping::MappingWriter;
use sd_notify::NotifyState;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Fewest mappings that the table is made for.
const MAPPINGS: usize = 4096;
/// Events on their way to the reconciler, of each kind.
const QUEUE: usize = 256;
/// Part of the shutdown deadline that is left for the workers.
const WORKERS_SHARE: u32 = 2;

/// What the engine begins with.
#[derive(Debug)]
pub struct Beginning {
    config: Config,
    /// In static mode, the site.
    site: Option<DesiredState>,
}

impl Beginning {
    /// Checks everything that a configuration names and that can be checked without starting: the site file, or the
    /// TLS files.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn check(config: Config) -> Result<Self> {
        let site = match &config.provisioning {
            ProvisioningConfig::File(path) => Some(load_site(path, &config.host, config.layout)?),
            ProvisioningConfig::Service(service) => {
                check_credentials(service, &config.host).context("[provisioning]")?;
                None
            }
        };
        Ok(Self { config, site })
    }

    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// Why it could not be started, or what did not end in order.
    pub fn run(self) -> Result<()> {
        let log = LogLevel::start(&self.config.log_level).map_err(anyhow::Error::msg)?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), host = %self.config.host, "overlane-engine starts");
        let cores = Cores::choose(&self.config.workers.cores)?;
        let threads = cores.control.len().clamp(1, 2);
        let confined = cores.clone();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(4)
            .thread_name("overlane-ctl")
            .on_thread_start(move || {
                if let Err(error) = confined.confine_to_control() {
                    tracing::warn!(%error, "a control thread shares its cores with workers");
                }
            })
            .enable_all()
            .build()
            .context("cannot start the control threads")?;
        let (runtime, writer, start) = {
            let _within = tokio.enter();
            let start = self.start(&tokio)?;
            let known = start.site.as_ref().or(start.stored.as_ref().map(|stored| &stored.state));
            let runtime = RuntimeConfig {
                layout: start.config.layout.unwrap_or_default(),
                workers: start.config.workers.clone(),
                expected_mappings: known.map_or(0, |state| state.mappings.len()).max(MAPPINGS),
                fragments: start.config.fragments,
                flows: start.config.flows,
                resolve: start.config.resolve,
                seed: [random(), random()],
                devargs: match &start.config.uplink.device {
                    UplinkDevice::Devargs(devargs) => vec![devargs.clone()],
                    UplinkDevice::Packet(_) => Vec::new(),
                },
            };
            // Workers take their cores from this thread's, so only then is it confined to the others.
            let (runtime, writer) = Runtime::start(&runtime, start.kernel.clone())?;
            (runtime, writer, start)
        };
        cores.confine_to_control()?;
        let outcome = tokio.block_on(start.live(log, runtime, writer));
        // What still waits for a peer is not waited for.
        tokio.shutdown_timeout(Duration::from_millis(100));
        outcome
    }

    /// Everything that can be refused before there are workers.
    fn start(self, tokio: &tokio::runtime::Runtime) -> Result<Start> {
        let (mut directory, mut stored) = (None, None);
        if let ProvisioningConfig::Service(_) = &self.config.provisioning {
            let path = &self.config.state_directory;
            let opened = StateDirectory::open(path)
                .with_context(|| format!("[state] directory: cannot use {}", path.display()))?;
            // A state that cannot be read is a pity, not a reason to stay down.
            stored = opened.load().unwrap_or_else(|error| {
                tracing::warn!(%error, "beginning without the state of the last run");
                None
            });
            directory = Some(opened);
        }
        let listen = self.config.telemetry_listen;
        let listener = tokio
            .block_on(TcpListener::bind(listen))
            .with_context(|| format!("[telemetry] listen: cannot listen on {listen}"))?;
        let kernel = Kernel::connect()?;
        let links = tokio.block_on(kernel.watch())?;
        Ok(Start { config: self.config, site: self.site, directory, stored, listener, kernel, links })
    }
}

/// What has been made before there are workers.
struct Start {
    config: Config,
    site: Option<DesiredState>,
    directory: Option<StateDirectory>,
    stored: Option<Stored>,
    listener: TcpListener,
    kernel: Kernel,
    links: Watch,
}

impl Start {
    /// The engine while workers run.
    async fn live(self, log: LogLevel, runtime: Runtime, writer: MappingWriter) -> Result<()> {
        let Self { config, site, directory, stored, listener, kernel, links } = self;
        let mut signals = Signals::new()?;
        let runtime = Arc::new(runtime);
        let mut tasks = JoinSet::new();

        let (link_sender, link_events) = mpsc::channel(QUEUE);
        tasks.spawn(forward_links(links, link_sender));
        let (port_sender, port_events) = mpsc::channel(QUEUE);
        let events = runtime.events().context("the runtime's events have been taken")?;
        tasks.spawn(forward_ports(events, port_sender));
        let (punt_sender, punts) = mpsc::channel(QUEUE);
        tasks.spawn(forward_punts(runtime.punts(), punt_sender));
        let (hint_sender, hints) = mpsc::channel(QUEUE);
        tasks.spawn(forward_hints(runtime.path_mtu_hints(), hint_sender));
        let (question_sender, questions) = mpsc::channel(QUEUE);
        tasks.spawn(forward_questions(runtime.questions(), question_sender));
        let (request_sender, requests) = resolve::channel();
        let (tracer, lookups) = Tracer::new(Arc::downgrade(&runtime));

        let refused = Arc::<EventLog>::default();
        tasks.spawn(forward_failures(runtime.failures(), Arc::downgrade(&runtime), refused.clone()));

        let (event_sender, events) = mpsc::channel(QUEUE);
        let (shutdown, shutdown_in) = watch::channel(false);
        let (applied_out, applied) = watch::channel(Applied::default());
        let (reports_out, reports) = watch::channel(Arc::default());
        let (status_out, status) = watch::channel(Arc::default());
        let pulse = Arc::<Pulse>::default();
        let settings = Settings {
            host: config.host.clone(),
            uplink: config.uplink.clone(),
            workers: runtime.cores().workers.len(),
            translate: config.translate,
            icmp: config.icmp,
            groups: config.groups,
            path_mtu_expiry: config.path_mtu_expiry,
            mapping_expiry: config.mapping_expiry,
            stale_max: directory.is_some().then_some(config.stale_max),
            directory,
            stored,
        };
        let inputs = Inputs {
            events,
            links: link_events,
            ports: port_events,
            punts,
            hints,
            questions,
            lookups,
            shutdown: shutdown_in,
        };
        let outputs = Outputs {
            applied: applied_out,
            reports: reports_out,
            requests: request_sender,
            status: status_out,
            pulse: pulse.clone(),
        };
        let dataplane = Running { runtime: Arc::clone(&runtime), writer };
        let mut reconciler =
            tokio::spawn(Reconciler::new(settings, dataplane, kernel, inputs, outputs).run());

        let vitals = Arc::new(RuntimeVitals(Arc::downgrade(&runtime)));
        let telemetry =
            Telemetry { status, vitals: vitals.clone(), refused: refused.clone(), pulse, tracer, log };
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, telemetry.router()).await {
                tracing::error!(%error, "telemetry is not served any more");
            }
        });
        let mut site = match (site, &config.provisioning) {
            (Some(state), ProvisioningConfig::File(path)) => {
                let mut site =
                    Site { path: path.clone(), host: config.host.clone(), number: 0, events: event_sender };
                site.send(state).await;
                Some(site)
            }
            (_, ProvisioningConfig::Service(service)) => {
                let client = Client {
                    service: service.clone(),
                    host: config.host.clone(),
                    layout: config.layout,
                    capacity: capacity(config.layout),
                    events: event_sender,
                    applied,
                    requests,
                    reports,
                    refused,
                    vitals,
                };
                tasks.spawn(client.run());
                None
            }
            (None, ProvisioningConfig::File(_)) => None,
        };
        notify(&[NotifyState::Ready]);
        let ended = loop {
            tokio::select! {
                signal = signals.next() => match (signal, &mut site) {
                    (Signal::Reload, Some(site)) => site.reload(config.layout).await,
                    (Signal::Reload, None) => {
                        tracing::info!("SIGHUP: there is no file to read again; provisioning comes from the service");
                    }
                    (Signal::Stop(name), _) => {
                        tracing::info!(signal = name, "shutting down");
                        break false;
                    }
                },
                // It ends by itself only if it fails.
                _ = &mut reconciler => break true,
            }
        };
        notify(&[NotifyState::Stopping]);
        let until = Instant::now() + config.shutdown_deadline;
        enforce(until);
        let _ = shutdown.send(true);
        if !ended {
            let half = config.shutdown_deadline / WORKERS_SHARE;
            if tokio::time::timeout(half, &mut reconciler).await.is_err() {
                tracing::warn!("the reconciler does not end; going on without it");
                reconciler.abort();
            }
        }
        tasks.shutdown().await;
        stop_workers(runtime, until).await?;
        if ended {
            bail!("the reconciler has failed");
        }
        tracing::info!("overlane-engine has ended in order");
        Ok(())
    }
}

/// Stops the workers and releases DPDK, when ports that are being opened or closed are done.
async fn stop_workers(runtime: Arc<Runtime>, until: Instant) -> Result<()> {
    let mut shared = runtime;
    let runtime = loop {
        match Arc::try_unwrap(shared) {
            Ok(runtime) => break runtime,
            Err(still) if Instant::now() < until => shared = still,
            Err(_) => bail!("a port was still being opened or closed at the shutdown deadline"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    runtime.shutdown(until.saturating_duration_since(Instant::now())).await
}

/// Ends the process at the deadline, whatever still runs.
fn enforce(until: Instant) {
    // Half a second more than everything that is bounded by the deadline itself.
    let until = until + Duration::from_millis(1500);
    let watchdog = std::thread::Builder::new().name("overlane-end".to_owned()).spawn(move || {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::sleep(left.max(Duration::from_millis(1)));
        }
        eprintln!("overlane-engine: not down at the shutdown deadline; exiting");
        std::process::exit(1);
    });
    if let Err(error) = watchdog {
        tracing::warn!(%error, "the shutdown deadline is not enforced");
    }
}

/// Refuses at start what the service would refuse later.
fn check_credentials(service: &ServiceConfig, host: &str) -> Result<()> {
    let Some(files) = &service.tls else {
        tracing::warn!("[provisioning] insecure = true: the service may be anybody on this machine");
        return Ok(());
    };
    let credentials = Credentials::load(files)?;
    if !credentials.names().iter().any(|name| name == host) {
        let file = files.certificate.display();
        let names = credentials.names().join(", ");
        bail!("{file}: must carry the DNS name {host:?}, [engine] host, not {names:?}");
    }
    Ok(())
}

/// How many interfaces the engine can attach.
fn capacity(layout: Option<Layout>) -> u32 {
    let most = if layout.unwrap_or_default().has_slots() { Slot::COUNT } else { MAX_INTERFACES - 1 };
    u32::try_from(most).unwrap_or(u32::MAX)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// The site file of static mode.
struct Site {
    path: PathBuf,
    host: String,
    number: u64,
    events: mpsc::Sender<Event>,
}

impl Site {
    async fn send(&mut self, mut state: DesiredState) {
        self.number += 1;
        state.revision = Some(Revision { incarnation: [0; 16], number: self.number });
        let _ = self.events.send(Event::Snapshot(Box::new(state))).await;
    }

    /// Reads the file again; a bad one changes nothing.
    async fn reload(&mut self, layout: Option<Layout>) {
        match load_site(&self.path, &self.host, layout) {
            Ok(state) => {
                tracing::info!(file = %self.path.display(), mappings = state.mappings.len(), "site file read again");
                self.send(state).await;
                let _ = self.events.send(Event::Connection(Connection::Down(String::new()))).await;
            }
            Err(error) => {
                tracing::error!(%error, "the site file is not legal; going on with the last one");
                let why = format!("not reloaded: {error}");
                let _ = self.events.send(Event::Connection(Connection::Down(why))).await;
            }
        }
    }
}

/// Reads a site file, whose layout must be the configured one.
pub(crate) fn load_site(path: &Path, host: &str, layout: Option<Layout>) -> Result<DesiredState, FileError> {
    let site = file::load(path, host)?;
    let is = site.host.as_ref().map(|host| host.value.layout);
    match (layout, is) {
        (Some(wanted), Some(is)) if wanted != is => Err(FileError {
            file: path.to_owned(),
            line: None,
            field: "layout".to_owned(),
            message: format!("must be {wanted}, as [substrate] layout says, not {is}"),
        }),
        _ => Ok(site),
    }
}

enum Signal {
    Reload,
    Stop(&'static str),
}

/// The signals that mean something.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Signal::Stop("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
