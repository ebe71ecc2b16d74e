//! Everything that can be set, with its unit, default, range and cost.

use std::net::SocketAddr;
use std::time::Duration;

use crate::datagram::MAX_PAYLOAD_V6;
use crate::error::ConfigError;
use crate::interface::Interface;
use crate::multicast::Membership;
pub use crate::multicast::{Hearers, ToGroups};
use crate::path_mtu::PathMtu;
use crate::receivers::Receivers;

/// Most connected peers that may be asked for.
const MAX_CONNECTED: u64 = 1 << 20;

/// Which driver serves.
///
/// ```
/// use shardgram_core::Backend;
/// assert_eq!("uring".parse(), Ok(Backend::Uring));
/// assert_eq!(Backend::Mio.to_string(), "mio");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring where it can be had, mio where not, with the reason in the ready line.
    #[default]
    Auto,
    /// io_uring, or an error that says what refuses it.
    Uring,
    /// mio.
    Mio,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mio => "mio",
        })
    }
}

impl std::str::FromStr for Backend {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "mio" => Ok(Self::Mio),
            other => Err(format!("unknown backend '{other}': it is auto, uring or mio")),
        }
    }
}

/// When peers get sockets of their own, where the driver has them ([`Config::max_connected`]).
///
/// ```
/// use shardgram_core::config::TierPolicy;
/// assert_eq!("adaptive".parse(), Ok(TierPolicy::Adaptive));
/// assert_eq!(TierPolicy::default().to_string(), "listener");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum TierPolicy {
    /// When the handler says so: [`crate::Accept::Connect`], [`crate::Io::promote`].
    #[default]
    Listener,
    /// As soon as they are made.
    Connected,
    /// When they have sent 64 datagrams without a pause of a second, and a shard has not spent more than a fiftieth
    /// of its time on such sockets; else when they have sent twice as many, and so on. They give their sockets up to others
    /// when they have been silent for a second.
    Adaptive,
}

impl std::fmt::Display for TierPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Connected => "connected",
            Self::Adaptive => "adaptive",
        })
    }
}

impl std::str::FromStr for TierPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "listener" => Ok(Self::Listener),
            "connected" => Ok(Self::Connected),
            "adaptive" => Ok(Self::Adaptive),
            other => Err(format!("unknown tier '{other}': it is listener, connected or adaptive")),
        }
    }
}

/// How peers get sockets of their own beside the listeners of the same address and port.
///
/// ```
/// use shardgram_core::config::AcceptChoice;
/// assert_eq!("same-group".parse(), Ok(AcceptChoice::SameGroup));
/// assert_eq!(AcceptChoice::default().to_string(), "auto");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum AcceptChoice {
    /// Outside the listeners' port group where that works, in it where not; the ready line says which.
    #[default]
    Auto,
    /// Outside the listeners' port group, or an error that says why not. Unknown sources cost the same
    /// however many peers are connected. Linux 6.13 with IPv6.
    SideGroup,
    /// In the listeners' port group, even where the other way works. A few datagrams of others come by a
    /// socket while it is made: they go where they belong, late, and are counted as redispatched. Every
    /// datagram of an unknown source costs a look at each such socket. Linux.
    SameGroup,
}

impl std::fmt::Display for AcceptChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::SideGroup => "side-group",
            Self::SameGroup => "same-group",
        })
    }
}

impl std::str::FromStr for AcceptChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "side-group" => Ok(Self::SideGroup),
            "same-group" => Ok(Self::SameGroup),
            other => Err(format!("unknown way to accept '{other}': it is auto, side-group or same-group")),
        }
    }
}

/// How a shard waits when there is nothing to do.
///
/// ```
/// use std::time::Duration;
/// use shardgram_core::config::WaitPolicy;
/// assert_eq!("spin:50us".parse(), Ok(WaitPolicy::SpinFor(Duration::from_micros(50))));
/// assert_eq!("spin".parse(), Ok(WaitPolicy::Spin));
/// assert_eq!(WaitPolicy::default().to_string(), "block");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// It sleeps in the kernel. Costs no processor time, and a wake-up of some microseconds.
    #[default]
    Block,
    /// It looks again and again for so long after the last thing that happened, then sleeps.
    SpinFor(Duration),
    /// It never sleeps: a core of its own for each shard, always at 100 %.
    Spin,
}

impl std::fmt::Display for WaitPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block => f.write_str("block"),
            Self::Spin => f.write_str("spin"),
            Self::SpinFor(time) => write!(f, "spin:{}", humantime::format_duration(*time)),
        }
    }
}

impl std::str::FromStr for WaitPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "block" => Ok(Self::Block),
            "spin" => Ok(Self::Spin),
            other => {
                let time = other.strip_prefix("spin:").and_then(|time| humantime::parse_duration(time).ok());
                let wrong =
                    || format!("unknown wait '{other}': it is block, spin, or spin:50us and the like");
                time.map(Self::SpinFor).ok_or_else(wrong)
            }
        }
    }
}

/// Fewest completion entries that may be asked for.
const FEWEST_COMPLETIONS: u32 = 8;
/// The most the kernel makes (`IORING_MAX_CQ_ENTRIES`).
const MOST_COMPLETIONS: u32 = 65_536;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, $low:expr => $high:expr;)*) => {
        /// What a server listens on and every bound it keeps. Invalid combinations are refused when the
        /// server is bound ([`Config::validate`]), never adjusted in silence.
        ///
        /// ```
        /// use shardgram_core::Config;
        /// let config = Config::new().listen(([127, 0, 0, 1], 9000).into()).shards(2).max_peers(1_000_000);
        /// assert!(config.validate().is_ok());
        /// ```
        #[derive(Clone, Debug)]
        pub struct Config {
            pub(crate) listen: Vec<SocketAddr>,
            pub(crate) cores: Vec<usize>,
            pub(crate) backend: Backend,
            pub(crate) idle_timeout: Option<Duration>,
            pub(crate) drain_on_signals: Option<Duration>,
            pub(crate) tier: TierPolicy,
            pub(crate) accept: AcceptChoice,
            pub(crate) wait: WaitPolicy,
            pub(crate) trains: bool,
            pub(crate) ecn: bool,
            pub(crate) receive_timestamps: bool,
            pub(crate) path_mtu: PathMtu,
            pub(crate) receivers: Receivers,
            pub(crate) max_connected: Option<u32>,
            pub(crate) max_connected_per_address: Option<u32>,
            pub(crate) memberships: Vec<Membership>,
            pub(crate) multicast_loop: bool,
            pub(crate) multicast_interface: Option<Interface>,
            pub(crate) broadcast: bool,
            $(pub(crate) $name: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    listen: Vec::new(),
                    cores: Vec::new(),
                    backend: Backend::Auto,
                    idle_timeout: Some(Duration::from_secs(120)),
                    drain_on_signals: None,
                    tier: TierPolicy::Listener,
                    accept: AcceptChoice::Auto,
                    wait: WaitPolicy::Block,
                    trains: true,
                    ecn: false,
                    receive_timestamps: false,
                    path_mtu: PathMtu::System,
                    receivers: Receivers::Auto,
                    max_connected: None,
                    max_connected_per_address: None,
                    memberships: Vec::new(),
                    multicast_loop: true,
                    multicast_interface: None,
                    broadcast: false,
                    $($name: $default,)*
                }
            }
        }

        impl Config {
            $(
                $(#[$doc])*
                ///
                /// ```
                /// use shardgram_core::Config;
                /// // The default:
                /// let config = Config::new()
                #[doc = concat!("    .", stringify!($name), "(", stringify!($default), ");")]
                #[doc = concat!("let setting = (\"", stringify!($name), "\", ", stringify!($default), ");")]
                /// assert!(config.settings().contains(&setting));
                /// assert!(config.validate().is_ok());
                /// ```
                #[must_use]
                pub fn $name(mut self, value: $type) -> Self {
                    self.$name = value;
                    self
                }
            )*

            fn check_ranges(&self) -> Result<(), ConfigError> {
                $({
                    let (value, low, high): (u64, u64, u64) = (u64::from(self.$name), $low, $high);
                    if value < low || value > high {
                        return Err(ConfigError::OutOfRange { field: stringify!($name), value, low, high });
                    }
                })*
                Ok(())
            }

            /// Every numeric setting with its value, in the order of the documentation.
            ///
            /// ```
            /// use shardgram_core::Config;
            /// for (name, value) in Config::new().settings() {
            ///     println!("{name} = {value}");
            /// }
            /// ```
            pub fn settings(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), u64::from(self.$name)),)*]
            }
        }
    };
}

settings! {
    /// Shards, one thread each. Default 1, range 1 to 1,024. Each costs its tables (reserved, not
    /// touched, until peers come) and up to 17 MiB of receive buffers, as far as datagrams have filled them.
    shards: u16 = 1, 1 => 1024;
    /// Addresses of this host that get listeners of their own for each wildcard address listened on, with
    /// io_uring: what is sent to them needs no source address per reply, and peers that write to them can
    /// get sockets of their own. Default 64, range 0 to 4,096; 0 turns that off. Further addresses are
    /// served by the wildcard's listeners. Each costs a descriptor and its socket buffers per shard.
    max_local_addresses: u16 = 64, 0 => 4_096;
    /// Peers per shard. Default 65,536, range 1 to 8,388,608. A peer costs at most 256 bytes beside the
    /// handler's state; the table is reserved at start and never moved, so filling it stalls nothing.
    max_peers: u32 = 65_536, 1 => 1 << 23;
    /// Paths per peer: 4-tuples that [`crate::Accept::PathOf`] may add, with the first one. Default 4,
    /// range 1 to 64. Together the shard's peers may use an eighth more paths than there are peers. Where
    /// there is room for no more, a new path takes the place of the peer's oldest unused one.
    max_paths_per_peer: u8 = 4, 1 => 64;
    /// Longest datagram received whole, in bytes. Default 65,507, range 1 to 65,527. A longer one is
    /// delivered with [`crate::Meta::truncated_from`] set. With io_uring each receive buffer is this long,
    /// but only the pages that datagrams reached are ever backed by memory; with mio a buffer is 64 KiB
    /// whatever this says.
    max_datagram: u32 = 65_507, 1 => MAX_PAYLOAD_V6 as u64;
    /// Receive buffers per shard, a power of two, with io_uring; mio uses up to 64. Default 256, range 8 to
    /// 32,768. Fewer are kinder to the cache; when they run out the kernel queues, and then counts what it
    /// drops. A client with many endpoints wants about as many as datagrams it may be sent at once.
    receive_buffers: u16 = 256, 8 => 32_768;
    /// Submission entries of a shard's ring, with io_uring; mio has none. Default 256, range 4 to 32,768. The
    /// kernel rounds up to a power of two. So many sends go into one entry of the kernel; a turn that sends
    /// more enters it more often. Each costs about 350 bytes, 64 of them locked.
    submission_entries: u16 = 256, 4 => 32_768;
    /// Completion entries of a shard's ring, with io_uring; mio has none. Default 0: four for each receive
    /// buffer, and at least two for each submission entry. Otherwise 8 to 65,536, and no fewer than
    /// `submission_entries` when both are rounded up to a power of two, as the kernel does. When they run out
    /// nothing is lost: the kernel keeps the rest in memory of its own and ends the receives, which are armed
    /// again. Each costs 16 bytes, locked.
    completion_entries: u32 = 0, 0 => 65_536;
    /// Receives handled in a turn before sends leave; a train received whole is one. As many that other shards have
    /// forwarded are handled beside them. Default 64, range 1 to 65,536. More is cheaper per datagram, fewer is kinder to the tail of the latency.
    turn_budget: u32 = 64, 1 => 65_536;
    /// Microseconds that a shard gives peers to send more, on Linux: with io_uring from 6.12 on, and with mio. Default 100,
    /// range 0 to 10,000; 0 turns it off. When a peer has sent several datagrams in a row, the shard's next sleep lasts
    /// until this time is over and something has come; with io_uring until 32 things have, if that is earlier. What comes
    /// then goes back, and is handled, in longer trains, for half of the processor time; it may be handled later by this
    /// time at most (with mio by 50 us more, timer slack in prctl(2)). Peers that wait for an answer before they send more
    /// are not kept waiting.
    gather_us: u32 = 100, 0 => 10_000;
    /// Timers and messages handled in a turn, each. Default 256, range 1 to 65,536.
    event_budget: u32 = 256, 1 => 65_536;
    /// Bytes that callbacks may copy into the outbox in one turn. Default 4 MiB, range 64 KiB to 1 GiB.
    outbox_bytes: u32 = 4 << 20, 64 << 10 => 1 << 30;
    /// Datagrams that may be queued in one turn. Default 16,384, range 1 to 1,048,576. 160 bytes each.
    outbox_datagrams: u32 = 16_384, 1 => 1 << 20;
    /// Bytes that may wait for one peer when a socket's buffer is full, a datagram counting 128 beside its own.
    /// Default 256 KiB, range 4 KiB to 64 MiB. Beyond it sends are refused as [`crate::SendError::Full`], and
    /// [`crate::Handler::on_writable`] says when there is room. What was queued before the socket was found full
    /// is not refused any more and waits beyond this bound.
    send_queue_bytes: u32 = 256 << 10, 4 << 10 => 64 << 20;
    /// The same for all peers of a shard together. Default 16 MiB, range 64 KiB to 1 GiB. Nothing goes beyond it:
    /// what was queued before the socket was found full then fails ([`crate::Snapshot::send_failed_full`]).
    send_backlog_bytes: u32 = 16 << 20, 64 << 10 => 1 << 30;
    /// Messages waiting for a shard. Default 4,096, range 1 to 1,048,576. When it is full the sender gets
    /// its message back. Forwarded datagrams have a bound of their own: 4,096 of them, a train counting as one, and
    /// 8 MiB.
    mailbox_len: u32 = 4_096, 1 => 1 << 20;
    /// Timers per shard. Default 262,144, range 1 to 16,777,216. About 64 bytes each beside the value,
    /// reserved and not touched until used.
    max_timers: u32 = 262_144, 1 => 1 << 24;
    /// Endpoints (client sockets) per shard. Default 16,384, range 0 to 1,048,576. Each is a descriptor.
    max_endpoints: u32 = 16_384, 0 => 1 << 20;
    /// Lookups of names under way per shard. Default 256, range 1 to 65,536. Further ones are refused as
    /// [`crate::DialError::LookupsFull`]. One that takes too long stays on the count until its resolver lets it go.
    /// Room for
    /// their answers, about 50 bytes each, is made with the first one.
    max_lookups: u32 = 256, 1 => 65_536;
    /// Kernel receive buffer of each socket, in bytes. Default 4 MiB, range 4 KiB to 1 GiB. The kernel
    /// may grant less; the server then warns and names the limit (net.core.rmem_max).
    receive_socket_bytes: u32 = 4 << 20, 4 << 10 => 1 << 30;
    /// Kernel send buffer of each socket, in bytes. Default 4 MiB, range 4 KiB to 1 GiB. Linux refuses a datagram
    /// ([`crate::PeerError::NoBuffers`]) of which the fragments come to more than four times this, which they may
    /// where this is less than the longest datagram.
    send_socket_bytes: u32 = 4 << 20, 4 << 10 => 1 << 30;
    /// Bytes that may be sent to an address for each byte that came from it, until the handler calls
    /// [`crate::Io::validated`]. Default 0: no limit. QUIC asks for 3 (RFC 9000 section 8.1).
    amplification_limit: u32 = 0, 0 => 1_000_000;
    /// Handler panics in a minute that a shard survives. Default 5, range 0 to 1,000. One more stops the
    /// server, since a remote party may be the cause.
    max_restarts_per_minute: u32 = 5, 0 => 1_000;
    /// How far datagrams to multicast groups go: the routers on their way, and one (IP_MULTICAST_TTL in ip(7),
    /// IPV6_MULTICAST_HOPS in ipv6(7)). Default 1: they stay in the network of this host. Range 0 to 255; 0 keeps them
    /// on this host. Those to single hosts have the system's.
    multicast_hops: u8 = 1, 0 => 255;
}

impl Config {
    /// The defaults: one shard, no listener.
    ///
    /// ```
    /// use shardgram_core::{Backend, Config};
    /// let config = Config::new();
    /// assert_eq!((config.shard_count(), config.backend_choice()), (1, Backend::Auto));
    /// assert!(config.listen_addrs().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// One more address to listen on. Port 0 takes a free port, the same one on every shard; `0.0.0.0`
    /// and `[::]` take every address of the family (never both families at once). Default: none.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let config = Config::new().listen(([0, 0, 0, 0], 9000).into()).listen("[::]:9000".parse().unwrap());
    /// assert_eq!(config.listen_addrs().len(), 2);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// The core each shard's thread is pinned to, one per shard. Default: none, threads float.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().shards(2).cores([2, 3]).validate().is_ok());
    /// assert!(Config::new().shards(2).cores([2]).validate().is_err());
    /// ```
    #[must_use]
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = cores.into_iter().collect();
        self
    }

    /// Which driver serves. Default [`Backend::Auto`].
    ///
    /// ```
    /// use shardgram_core::{Backend, Config};
    /// let config = Config::new().backend(Backend::Mio);
    /// assert_eq!(config.backend_choice(), Backend::Mio);
    /// ```
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// How long a peer may say nothing before it is closed as [`crate::CloseReason::Idle`], to an eighth
    /// of that. Default 120 s, the least a NAT keeps a mapping (RFC 4787 REQ-5). `None`: for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// assert!(Config::new().idle_timeout(Some(Duration::from_secs(30))).validate().is_ok());
    /// assert!(Config::new().idle_timeout(None).validate().is_ok());
    /// assert!(Config::new().idle_timeout(Some(Duration::ZERO)).validate().is_err());
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Drain, with this deadline, when SIGINT or SIGTERM comes. Default `None`: signals are not touched.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// let config = Config::new().drain_on_signals(Some(Duration::from_secs(10)));
    /// assert_eq!(config.signal_deadline(), Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn drain_on_signals(mut self, deadline: Option<Duration>) -> Self {
        self.drain_on_signals = deadline;
        self
    }

    /// Whether datagrams leave and are received as trains (UDP_SEGMENT and UDP_GRO, udp(7)) where the system can:
    /// several of equal size to or from one peer pass through the kernel as one. Default true. What handlers see
    /// stays the same, unless they ask for trains ([`crate::Handler::WHOLE_TRAINS`]).
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(!Config::new().trains(false).uses_trains());
    /// ```
    #[must_use]
    pub fn trains(mut self, on: bool) -> Self {
        self.trains = on;
        self
    }

    /// Whether received datagrams say how they are marked ([`crate::Meta::ecn`]; IP_RECVTOS in ip(7), IPV6_RECVTCLASS
    /// in ipv6(7)). Default false. It costs 24 bytes of control data that the kernel writes for each receive, and a
    /// system call for each socket. Marks are sent whatever this says ([`crate::Io::set_ecn`]). Refused when
    /// the server is bound where the system does not report them (IPv4 on OpenBSD and NetBSD).
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().ecn(true).reports_ecn());
    /// ```
    #[must_use]
    pub fn ecn(mut self, on: bool) -> Self {
        self.ecn = on;
        self
    }

    /// Whether received datagrams say when the kernel received them ([`crate::Meta::kernel_time`]; SO_TIMESTAMPNS
    /// in socket(7)), in nanoseconds. Default false. It costs 32 bytes of control data that the kernel writes for each
    /// receive, and a system call for each socket; and as long as any socket of the host asks for it, the kernel reads
    /// its clock for every packet the host receives (`netstamp_needed_key` in net/core/dev.c). On Linux;
    /// elsewhere it is refused when the server is bound. The mio driver receives no trains where this and [`Config::ecn`] are both on.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().receive_timestamps(true).reports_time());
    /// ```
    #[must_use]
    pub fn receive_timestamps(mut self, on: bool) -> Self {
        self.receive_timestamps = on;
        self
    }

    /// What becomes of datagrams that are longer than their path's MTU (IP_MTU_DISCOVER in ip(7), IPV6_MTU_DISCOVER in
    /// ipv6(7)). Default [`PathMtu::System`]: they are fragmented. Any other costs a system call for each socket.
    /// Linux has all modes; elsewhere one that cannot be had is refused when the server is bound, and where the default
    /// cannot (macOS, FreeBSD, IPv6 on the other BSDs) the server warns. The socket hook is called later and has the last
    /// word.
    ///
    /// ```
    /// use shardgram_core::{Config, PathMtu};
    /// assert_eq!(Config::new().path_mtu(PathMtu::Probe).path_mtu_mode(), PathMtu::Probe);
    /// ```
    #[must_use]
    pub fn path_mtu(mut self, mode: PathMtu) -> Self {
        self.path_mtu = mode;
        self
    }

    /// Which shards receive at an address that is listened on. Default [`Receivers::Auto`]: every shard where the
    /// system divides what comes to a port, one for each address where it does not. Another choice is refused when the
    /// server is bound if it cannot be had. With one receiver each datagram of another shard's peers is copied once and
    /// wakes that shard; up to 4,096 of them and 8 MiB wait for a shard, and further ones are dropped
    /// ([`crate::Snapshot::dropped_forward_full`]).
    ///
    /// ```
    /// use shardgram_core::{Config, Receivers};
    /// assert_eq!(Config::new().receivers(Receivers::One).receivers_choice(), Receivers::One);
    /// ```
    #[must_use]
    pub fn receivers(mut self, receivers: Receivers) -> Self {
        self.receivers = receivers;
        self
    }

    /// When peers get sockets of their own. Default [`TierPolicy::Listener`]: when the handler says so. Another
    /// policy is refused when the server is bound where peers cannot have sockets of their own.
    ///
    /// ```
    /// use shardgram_core::{Config, config::TierPolicy};
    /// assert_eq!(Config::new().tier(TierPolicy::Adaptive).tier_policy(), TierPolicy::Adaptive);
    /// ```
    #[must_use]
    pub fn tier(mut self, tier: TierPolicy) -> Self {
        self.tier = tier;
        self
    }

    /// How peers get sockets of their own. Default [`AcceptChoice::Auto`]: the better way that works. Another
    /// choice is refused when the server is bound if it cannot be had, by a driver that has no such
    /// sockets too.
    ///
    /// ```
    /// use shardgram_core::{Config, config::AcceptChoice};
    /// let config = Config::new().accept(AcceptChoice::SameGroup);
    /// assert_eq!(config.accept_choice(), AcceptChoice::SameGroup);
    /// ```
    #[must_use]
    pub fn accept(mut self, accept: AcceptChoice) -> Self {
        self.accept = accept;
        self
    }

    /// How a shard waits when there is nothing to do. Default [`WaitPolicy::Block`].
    ///
    /// ```
    /// use shardgram_core::{Config, config::WaitPolicy};
    /// assert_eq!(Config::new().wait(WaitPolicy::Spin).wait_policy(), WaitPolicy::Spin);
    /// ```
    #[must_use]
    pub fn wait(mut self, wait: WaitPolicy) -> Self {
        self.wait = wait;
        self
    }

    /// Peers with sockets of their own, in the whole process, divided evenly among the shards: ask for one
    /// a shard at least. Range 0 to 1,048,576. Each costs a descriptor, about 2 KiB of kernel memory, and 10 to 70 us to make. More than
    /// the limit of descriptors (`ulimit -n`) leaves room for is refused when the server is bound, with the
    /// number that fits. Default: 4,096, or as many as fit.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().max_connected(100).connected_limits(), (Some(100), None));
    /// ```
    #[must_use]
    pub fn max_connected(mut self, peers: u32) -> Self {
        self.max_connected = Some(peers);
        self
    }

    /// Of those, at one local address, divided in the same way. Range 0 to 1,048,576. Making one takes about 10 ns longer for every
    /// socket its address has. Default: 4,096; 32 on systems where every connected socket makes the others'
    /// datagrams dearer (before Linux 6.13).
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().max_connected_per_address(100).connected_limits(), (None, Some(100)));
    /// ```
    #[must_use]
    pub fn max_connected_per_address(mut self, peers: u32) -> Self {
        self.max_connected_per_address = Some(peers);
        self
    }

    /// Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// The first setting that is out of range, or the combination that makes no sense.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let error = Config::new().receive_buffers(100).validate().unwrap_err();
    /// assert_eq!(error.to_string(), "receive_buffers = 100 is out of range: it must be 64 to 128");
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_ranges()?;
        if !self.receive_buffers.is_power_of_two() {
            let low = u64::from(self.receive_buffers.next_power_of_two() / 2);
            let value = u64::from(self.receive_buffers);
            return Err(ConfigError::OutOfRange { field: "receive_buffers", value, low, high: low * 2 });
        }
        let connected = [
            ("max_connected", self.max_connected),
            ("max_connected_per_address", self.max_connected_per_address),
        ];
        for (field, value) in connected {
            let value = u64::from(value.unwrap_or(0));
            if value > MAX_CONNECTED {
                return Err(ConfigError::OutOfRange { field, value, low: 0, high: MAX_CONNECTED });
            }
        }
        self.check_queues()?;
        if !self.cores.is_empty() && self.cores.len() != usize::from(self.shards) {
            let (cores, shards) = (self.cores.len(), usize::from(self.shards));
            return Err(ConfigError::CoresMismatch { cores, shards });
        }
        if self.listen.len() > usize::from(u16::MAX) {
            let value = self.listen.len() as u64;
            return Err(ConfigError::OutOfRange { field: "listen", value, low: 0, high: 65_535 });
        }
        for (i, address) in self.listen.iter().enumerate() {
            if address.port() != 0 && self.listen[..i].contains(address) {
                return Err(ConfigError::ListenTwice(*address));
            }
        }
        self.check_memberships()?;
        if self.idle_timeout.is_some_and(|t| t < Duration::from_millis(8) || t > Duration::from_secs(86_400))
        {
            let value = self.idle_timeout.map_or(0, |t| t.as_millis() as u64);
            return Err(ConfigError::OutOfRange {
                field: "idle_timeout_ms",
                value,
                low: 8,
                high: 86_400_000,
            });
        }
        Ok(())
    }

    /// io_uring_setup(2), IORING_SETUP_CQSIZE: the completion queue may not be the shorter one.
    fn check_queues(&self) -> Result<(), ConfigError> {
        let (completions, submissions) = (self.completion_entries, self.submission_entries);
        if completions == 0 {
            return Ok(());
        }
        if completions < FEWEST_COMPLETIONS {
            let (value, low, high) = (completions.into(), FEWEST_COMPLETIONS.into(), MOST_COMPLETIONS.into());
            return Err(ConfigError::OutOfRange { field: "completion_entries", value, low, high });
        }
        if completions.next_power_of_two() < u32::from(submissions).next_power_of_two() {
            return Err(ConfigError::QueuesMismatch { completions, submissions });
        }
        Ok(())
    }
}

/// What was set, for drivers and the facade.
impl Config {
    /// Addresses to listen on.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let config = Config::new().listen("127.0.0.1:9000".parse().unwrap());
    /// assert_eq!(config.listen_addrs()[0].port(), 9000);
    /// ```
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }
    /// Cores to pin to; empty for none.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().core_list().is_empty());
    /// assert_eq!(Config::new().shards(2).cores(2..4).core_list(), [2, 3]);
    /// ```
    pub fn core_list(&self) -> &[usize] {
        &self.cores
    }
    /// The driver asked for.
    ///
    /// ```
    /// use shardgram_core::{Backend, Config};
    /// let config = Config::new().backend("uring".parse().unwrap());
    /// assert_eq!(config.backend_choice(), Backend::Uring);
    /// ```
    pub fn backend_choice(&self) -> Backend {
        self.backend
    }
    /// Number of shards.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().shards(4).shard_count(), 4);
    /// ```
    pub fn shard_count(&self) -> u16 {
        self.shards
    }
    /// Local addresses with listeners of their own, for each wildcard address listened on.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().max_local_addresses(8).local_address_capacity(), 8);
    /// ```
    pub fn local_address_capacity(&self) -> usize {
        usize::from(self.max_local_addresses)
    }
    /// Bytes of the longest datagram received whole.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let buffer = vec![0; Config::new().max_datagram(1472).datagram_capacity()];
    /// assert_eq!(buffer.len(), 1472);
    /// ```
    pub fn datagram_capacity(&self) -> usize {
        self.max_datagram as usize
    }
    /// Receive buffers per shard.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let config = Config::new().receive_buffers(64);
    /// let buffers = vec![vec![0; config.datagram_capacity()]; usize::from(config.buffer_count())];
    /// assert_eq!(buffers.len(), 64);
    /// ```
    pub fn buffer_count(&self) -> u16 {
        self.receive_buffers
    }
    /// Submission entries of a ring.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().submission_entries(16).submission_capacity(), 16);
    /// ```
    pub fn submission_capacity(&self) -> u32 {
        u32::from(self.submission_entries)
    }
    /// Completion entries of a ring, those derived from the other settings included.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().completion_capacity(), 4 * 256);
    /// assert_eq!(Config::new().receive_buffers(8).completion_capacity(), 2 * 256);
    /// assert_eq!(Config::new().submission_entries(8).completion_entries(8).completion_capacity(), 8);
    /// ```
    pub fn completion_capacity(&self) -> u32 {
        match self.completion_entries {
            // Every buffer may wait in a completion, beside the ends of receives and failed sends.
            0 => (4 * u32::from(self.receive_buffers))
                .max(2 * u32::from(self.submission_entries))
                .min(MOST_COMPLETIONS),
            entries => entries,
        }
    }
    /// Messages a mailbox holds.
    ///
    /// ```
    /// use shardgram_core::{Config, mailbox::mailboxes};
    /// let config = Config::new().shards(2).mailbox_len(64);
    /// let (postboxes, _mailboxes) = mailboxes::<u32>(config.shard_count(), config.mailbox_capacity());
    /// assert_eq!(postboxes.len(), 2);
    /// ```
    pub fn mailbox_capacity(&self) -> usize {
        self.mailbox_len as usize
    }
    /// Endpoints per shard.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().max_endpoints(100).endpoint_capacity(), 100);
    /// ```
    pub fn endpoint_capacity(&self) -> usize {
        self.max_endpoints as usize
    }
    /// Kernel buffers of a socket in bytes: receive, send.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let (receive, send) = Config::new().receive_socket_bytes(8 << 20).socket_bytes();
    /// assert_eq!((receive, send), (8 << 20, 4 << 20));
    /// ```
    pub fn socket_bytes(&self) -> (usize, usize) {
        (self.receive_socket_bytes as usize, self.send_socket_bytes as usize)
    }
    /// Whether trains are sent and received.
    ///
    /// ```
    /// assert!(shardgram_core::Config::new().uses_trains());
    /// ```
    pub fn uses_trains(&self) -> bool {
        self.trains
    }
    /// Whether received datagrams say how they are marked.
    ///
    /// ```
    /// assert!(!shardgram_core::Config::new().reports_ecn());
    /// ```
    pub fn reports_ecn(&self) -> bool {
        self.ecn
    }
    /// Whether received datagrams say when the kernel received them.
    ///
    /// ```
    /// assert!(!shardgram_core::Config::new().reports_time());
    /// ```
    pub fn reports_time(&self) -> bool {
        self.receive_timestamps
    }
    /// What becomes of datagrams that are longer than their path's MTU.
    ///
    /// ```
    /// use shardgram_core::{Config, PathMtu};
    /// assert_eq!(Config::new().path_mtu_mode(), PathMtu::System);
    /// ```
    pub fn path_mtu_mode(&self) -> PathMtu {
        self.path_mtu
    }
    /// Which shards receive at an address that is listened on.
    ///
    /// ```
    /// use shardgram_core::{Config, Receivers};
    /// assert_eq!(Config::new().receivers_choice(), Receivers::Auto);
    /// ```
    pub fn receivers_choice(&self) -> Receivers {
        self.receivers
    }
    /// When peers get sockets of their own.
    ///
    /// ```
    /// use shardgram_core::{Config, config::TierPolicy};
    /// assert_eq!(Config::new().tier_policy(), TierPolicy::Listener);
    /// ```
    pub fn tier_policy(&self) -> TierPolicy {
        self.tier
    }
    /// How peers get sockets of their own.
    ///
    /// ```
    /// use shardgram_core::{Config, config::AcceptChoice};
    /// assert_eq!(Config::new().accept_choice(), AcceptChoice::Auto);
    /// ```
    pub fn accept_choice(&self) -> AcceptChoice {
        self.accept
    }
    /// After how long a silent peer is closed; `None` if it never is.
    ///
    /// ```
    /// use std::time::Duration;
    /// assert_eq!(shardgram_core::Config::new().idle_limit(), Some(Duration::from_secs(120)));
    /// ```
    pub fn idle_limit(&self) -> Option<Duration> {
        self.idle_timeout
    }
    /// How long a shard gives peers to send more; `None` if it does not.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().gather_us(20).gather_time(), Some(Duration::from_micros(20)));
    /// assert_eq!(Config::new().gather_us(0).gather_time(), None);
    /// ```
    pub fn gather_time(&self) -> Option<Duration> {
        (self.gather_us > 0).then(|| Duration::from_micros(self.gather_us.into()))
    }
    /// How a shard waits.
    ///
    /// ```
    /// use shardgram_core::{Config, config::WaitPolicy};
    /// assert_eq!(Config::new().wait_policy(), WaitPolicy::Block);
    /// ```
    pub fn wait_policy(&self) -> WaitPolicy {
        self.wait
    }
    /// Connected peers in all and for each local address, as far as they were set.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().connected_limits(), (None, None));
    /// ```
    pub fn connected_limits(&self) -> (Option<u32>, Option<u32>) {
        (self.max_connected, self.max_connected_per_address)
    }
    /// The deadline of a drain that a signal starts.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().signal_deadline(), None); // signals are not touched
    /// ```
    pub fn signal_deadline(&self) -> Option<Duration> {
        self.drain_on_signals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_of_a_ring_have_to_match() {
        let queues = |submissions, completions| {
            Config::new().submission_entries(submissions).completion_entries(completions).validate()
        };
        // Rounded up, 5 and 8 are both 8.
        for (submissions, completions) in [(256, 0), (32_768, 65_536), (4, 8), (8, 8), (5, 8), (200, 200)] {
            assert_eq!(queues(submissions, completions), Ok(()), "{submissions} {completions}");
        }
        for (submissions, completions) in [(9, 8), (256, 128), (32_768, 16_384)] {
            let mismatch = ConfigError::QueuesMismatch { completions, submissions };
            assert_eq!(queues(submissions, completions), Err(mismatch));
        }
        for (submissions, completions) in [(3, 0), (4, 7), (4, 65_537), (32_769, 0)] {
            let refused = queues(submissions, completions);
            assert!(matches!(refused, Err(ConfigError::OutOfRange { .. })), "{submissions} {completions}");
        }
    }

    #[test]
    fn completions_that_are_derived_suffice_for_both() {
        assert_eq!(Config::new().submission_entries(32_768).completion_capacity(), 65_536);
        assert_eq!(Config::new().receive_buffers(32_768).completion_capacity(), 65_536);
    }
}
