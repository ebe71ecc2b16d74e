//! From a bound server to running threads.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use shardgram_core::control::Control;
use shardgram_core::driver::{ConnectedLimits, Driver};
use shardgram_core::mailbox::{Mailbox, mailboxes};
use shardgram_core::own_addresses::OwnAddresses;
use shardgram_core::shard_loop::{Ending, Secrets, Setup, ShardLoop};
use shardgram_core::{Config, Handler, Resolver, ShardInfo, Stats};
use shardgram_sys::{Sharing, SocketOptions, affinity};

use crate::bound::Bound;
use crate::drivers::{AcceptWay, Changes, Drive, Fleet, Listeners, Parts, Ring};
use crate::error::StartError;
use crate::foreign_sockets::ForeignSockets;
use crate::handle::{Followers, Handle};
use crate::random::random_key;
use crate::remote::Remote;
use crate::signals::SignalDrain;
use crate::tied_listeners::TiedListeners;

/// What one shard's thread is given.
struct Shard<M> {
    config: Config,
    options: SocketOptions,
    listeners: Listeners,
    changes: Option<Changes>,
    accept: Option<AcceptWay>,
    limits: ConnectedLimits,
    ring: Option<Ring>,
    setup: Setup<M>,
    fleet: Fleet,
}

/// What all shards of a server have in common.
struct Common<'a, M> {
    remote: &'a Remote<M>,
    resolver: &'a Arc<dyn Resolver>,
    own: Arc<OwnAddresses>,
    shards: u16,
    cookies: (u64, u64),
    start: Instant,
}

impl<M> Common<'_, M> {
    fn setup(&self, shard: u16, mailbox: Mailbox<M>) -> Setup<M> {
        Setup {
            info: ShardInfo::new(shard, self.shards),
            listeners: Arc::clone(self.remote.listeners()),
            mailbox,
            postboxes: Arc::clone(self.remote.postboxes()),
            control: Arc::clone(self.remote.control()),
            stats: Arc::clone(&self.remote.shard_counters()[usize::from(shard)]),
            secrets: Secrets { table: random_key(), cookies: self.cookies },
            resolver: Some(Arc::clone(self.resolver)),
            own: Arc::clone(&self.own),
            start: self.start,
        }
    }
}

/// Stops the other shards when a shard's thread ends in a way it should not, by whatever path.
struct StopOthers<M: Send> {
    remote: Remote<M>,
    ended_well: bool,
}

impl<M: Send> Drop for StopOthers<M> {
    fn drop(&mut self) {
        if !self.ended_well {
            self.remote.stop();
        }
    }
}

type Started = Result<(), StartError>;

/// Starts a thread for each shard of a server. Returns when all of them serve.
pub(crate) fn spawn<H: Handler>(
    bound: Bound,
    resolver: &Arc<dyn Resolver>,
    make: impl Fn(ShardInfo) -> H + Send + Sync + 'static,
) -> Result<Handle<H::Message>, StartError> {
    let tied = TiedListeners::among(&bound)?;
    let Bound {
        config,
        options,
        addresses,
        listeners,
        sharing,
        local_addresses,
        choice,
        connected,
        mut listening,
        ..
    } = bound;
    let shards = config.settings().shards;
    let system = |what| move |source| StartError::System { what, source };
    let fleet = Fleet::new(choice.backend, shards, connected.way.is_some());
    let fleet = fleet.map_err(system("make the shards' wake-ups"))?;
    let listeners =
        fleet.listeners(listeners, sharing, &options).map_err(system("take the listeners over"))?;
    let (postboxes, mailboxes) = mailboxes(shards, config.settings().mailbox_len as usize);
    let control = Arc::new(Control::default());
    let stats: Arc<[Arc<Stats>]> = (0..shards).map(|_| Arc::new(Stats::default())).collect();
    let tied = tied.follow(Arc::clone(&stats)).map_err(system("watch the listeners' interfaces"))?;
    let foreign = match sharing {
        Sharing::PerShard => ForeignSockets::follow(&addresses, &stats[0]),
        // No port group, and nobody can bind beside a listener.
        Sharing::OneReceiver => Ok(None),
    };
    let foreign = foreign.map_err(system("look for sockets of others"))?;
    let remote = Remote::new(postboxes, control, stats, addresses);
    let watch = |deadline| SignalDrain::install(remote.clone(), deadline);
    let signals =
        config.settings().drain_on_signals.map(watch).transpose().map_err(system("watch for signals"))?;

    let bells: Vec<_> = remote.postboxes().iter().map(|postbox| Arc::clone(postbox.bell())).collect();
    let (changes, address_threads) =
        local_addresses.start(&bells).map_err(system("watch for changes of this host's addresses"))?;

    // Not when the server is bound: a process may fork in between, and threads do not come along.
    if !config.settings().cores.is_empty() {
        resolver.before_pinning();
    }
    let make = Arc::new(make);
    let (start, cookies) = (Instant::now(), random_key());
    let (report, reports) = mpsc::channel();
    let own = listening.follow();
    let common = Common { remote: &remote, resolver, own, shards, cookies, start };
    let mut handle = Handle::new(
        remote.clone(),
        signals,
        Followers { _addresses: address_threads, _tied: tied, _foreign: foreign },
        listening,
    );
    let mut rings = choice.rings.into_iter();
    let given = mailboxes.into_iter().zip(listeners).zip(changes);
    for (index, ((mailbox, listeners), changes)) in given.enumerate() {
        let shard = index as u16;
        let setup = common.setup(shard, mailbox);
        let (config, options, fleet) = (config.clone(), options.clone(), fleet.clone());
        let (accept, limits) = (connected.way.clone(), connected.limits(shard, shards));
        let ring = rings.next();
        let given = Shard { config, options, listeners, changes, accept, limits, ring, setup, fleet };
        let thread = thread_of(given, remote.clone(), Arc::clone(&make), report.clone())
            .map_err(|source| StartError::Shard { shard, source })?;
        handle.adopt(thread);
    }
    drop(report);
    // A thread that fails stops the others, and dropping the handle waits for them.
    for started in reports.iter().take(usize::from(shards)) {
        started?;
    }
    Ok(handle)
}

fn thread_of<H: Handler>(
    shard: Shard<H::Message>,
    remote: Remote<H::Message>,
    make: Arc<impl Fn(ShardInfo) -> H + Send + Sync + 'static>,
    report: mpsc::Sender<Started>,
) -> io::Result<JoinHandle<Ending>> {
    let name = format!("shardgram-{}", shard.setup.info.shard);
    std::thread::Builder::new().name(name).spawn(move || {
        let mut guard = StopOthers { remote, ended_well: false };
        let ending = serve(shard, &*make, &report);
        guard.ended_well = matches!(ending, Ending::Drained | Ending::DrainDeadline | Ending::Stopped);
        ending
    })
}

/// One shard, from its driver to its end.
fn serve<H: Handler>(
    shard: Shard<H::Message>,
    make: &impl Fn(ShardInfo) -> H,
    report: &mpsc::Sender<Started>,
) -> Ending {
    let number = shard.setup.info.shard;
    if let Some(&core) = shard.config.settings().cores.get(usize::from(number))
        && let Err(error) = affinity::pin_current_thread(core)
    {
        let _ = report.send(Err(error.into()));
        return Ending::Stopped;
    }
    let Shard { config, options, listeners, changes, accept, limits, ring, setup, fleet } = shard;
    // The mailbox goes to the loop, the driver only needs its bell.
    let bell = Arc::clone(setup.mailbox.bell());
    let config = &config;
    let bell = &bell;
    let parts = Parts { shard: number, ring, listeners, changes, config, options, bell, accept, limits };
    let serving = Serving { setup, config, make, report };
    fleet.with_driver(parts, serving).unwrap_or_else(|source| {
        let _ = report.send(Err(StartError::Shard { shard: number, source }));
        Ending::Stopped
    })
}

/// A shard that lacks nothing but its driver.
struct Serving<'a, H: Handler, F> {
    setup: Setup<H::Message>,
    config: &'a Config,
    make: &'a F,
    report: &'a mpsc::Sender<Started>,
}

impl<H: Handler, F: Fn(ShardInfo) -> H> Drive for Serving<'_, H, F> {
    type Outcome = Ending;

    fn drive(self, driver: impl Driver) -> Ending {
        let Self { setup, config, make, report } = self;
        let shard = setup.info.shard;
        match ShardLoop::new(driver, setup, config, make) {
            Ok(shard_loop) => {
                let _ = report.send(Ok(()));
                shard_loop.run()
            }
            Err(ending) => {
                if let Ending::TooManyRestarts { callback, .. } = ending {
                    let _ = report.send(Err(StartError::HandlerPanicked { shard, callback }));
                }
                ending
            }
        }
    }
}
