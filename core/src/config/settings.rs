//! The table of settings: each is declared here, once.
//!
//! A row is `name: type = default, low to high; "unit"; "cost";` under a line that says what it is. From it follow the
//! field, the default, the check of the range, and the row in the documentation. A setting without a range takes every
//! value of its type. What a setting means in full stands at its setter in `builder/`, combinations that make no sense
//! in `check.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::choices::{AcceptChoice, Backend, TierPolicy, WaitPolicy};
use crate::types::datagram::MAX_PAYLOAD_V6;
use crate::types::error::ConfigError;
use crate::types::interface::Interface;
use crate::types::multicast::Membership;
use crate::types::path_mtu::PathMtu;
use crate::types::receivers::Receivers;

/// The most completion entries the kernel makes (`IORING_MAX_CQ_ENTRIES`).
pub(super) const MOST_COMPLETIONS: u32 = 65_536;

macro_rules! settings {
    ($(
        $(#[doc = $what:literal])+
        $name:ident: $type:ty = $default:expr $(, $low:literal to $high:literal $(as $said:literal)?)?;
        $unit:literal; $cost:literal;
    )+) => {
        /// What was set, as plain data: for drivers, which read each setting by the name of its setter.
        ///
        /// ```
        /// use shardgram_core::{Backend, Config};
        /// let config = Config::new().shards(4);
        /// let settings = config.settings();
        /// assert_eq!((settings.shards, settings.backend), (4, Backend::Auto));
        /// ```
        ///
        /// | setting | what it is | type | default | range | unit | cost |
        /// | --- | --- | --- | --- | --- | --- | --- |
        $(#[doc = concat!(
            "| `", stringify!($name), "` |", $($what,)+ " | `", stringify!($type), "` | `", stringify!($default), "` | ",
            $(stringify!($low), " to ", stringify!($high),)? " | ", $unit, " | ", $cost, " |"
        )])+
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct Settings {
            $($(#[doc = $what])+ pub $name: $type,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Settings {
            /// Says which setting is out of its range, if one is.
            pub(super) fn check_ranges(&self) -> Result<(), ConfigError> {
                $($(
                    let field = said!($name $($said)?);
                    check(field, &self.$name, $low, $high)?;
                )?)+
                Ok(())
            }
        }

        /// The rows as they stand here, for whoever checks what else says the same.
        #[cfg(test)]
        pub(super) const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            default: stringify!($default),
            range: range!($($low, $high)?),
        },)+];
    };
}

/// The name of a setting in an error.
macro_rules! said {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $said:literal) => {
        $said
    };
}

#[cfg(test)]
macro_rules! range {
    () => {
        None
    };
    ($low:literal, $high:literal) => {
        Some(($low, $high))
    };
}

/// A row of the table.
#[cfg(test)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) range: Option<(u64, u64)>,
}

settings! {
    /// Addresses to listen on.
    listen: Vec<SocketAddr> = Vec::new(), 0 to 65_535; ""; "a descriptor and its socket buffers per shard";
    /// Shards, one thread each.
    shards: u16 = 1, 1 to 1_024; "threads"; "its tables, and up to 17 MiB of receive buffers";
    /// The core of each shard's thread; empty if threads float.
    cores: Vec<usize> = Vec::new(); ""; "none";
    /// The driver.
    backend: Backend = Backend::Auto; ""; "none";
    /// How a shard waits when there is nothing to do.
    wait: WaitPolicy = WaitPolicy::Block; ""; "spinning takes a core per shard";
    /// How long a drain may take that a signal starts; none if signals are not touched.
    drain_on_signals: Option<Duration> = None; "time"; "none";
    /// Panics of a shard's handler within a minute that do not end the server; none if no number ends it.
    max_restarts_per_minute: Option<u32> = None, 0 to 1_000; "panics"; "none";

    /// Which shards receive at an address listened on.
    receivers: Receivers = Receivers::Auto; ""; "with one receiver a copy and a wake-up per forwarded datagram";
    /// Addresses of this host with listeners of their own, for each wildcard address listened on.
    max_local_addresses: u16 = 64, 0 to 4_096; "addresses"; "a descriptor and its socket buffers per shard";
    /// Endpoints (client sockets) per shard.
    max_endpoints: u32 = 16_384, 0 to 1_048_576; "endpoints"; "a descriptor";
    /// Kernel receive buffer of each socket.
    receive_socket_bytes: u32 = 4_194_304, 4_096 to 1_073_741_824; "bytes"; "kernel memory, when it fills";
    /// Kernel send buffer of each socket.
    send_socket_bytes: u32 = 4_194_304, 4_096 to 1_073_741_824; "bytes"; "kernel memory, when it fills";
    /// Whether datagrams leave and are received as trains.
    trains: bool = true; ""; "none";
    /// Whether received datagrams say how they are marked.
    ecn: bool = false; ""; "24 bytes of control data per receive, a system call per socket";
    /// Whether received datagrams say when the kernel received them.
    receive_timestamps: bool = false; ""; "32 bytes of control data per receive, a clock reading per packet of the host";
    /// What becomes of datagrams that are longer than their path's MTU.
    path_mtu: PathMtu = PathMtu::System; ""; "a system call per socket";
    /// Whether datagrams may be sent to broadcast addresses.
    broadcast: bool = false; ""; "a system call per socket";
    /// Multicast groups to hear ([`Config::join`](crate::Config::join)).
    memberships: Vec<Membership> = Vec::new(); ""; "a membership of each wildcard socket that hears it";
    /// Routers on the way of a datagram to a group, and one.
    multicast_hops: u8 = 1, 0 to 255; "hops"; "a system call per socket";
    /// Whether this host hears what it sends to groups.
    multicast_loop: bool = true; ""; "a system call per socket";
    /// By which interface datagrams to groups leave; none if the route says so.
    multicast_interface: Option<Interface> = None; ""; "a system call per socket";

    /// Peers per shard.
    max_peers: u32 = 65_536, 1 to 8_388_608; "peers"; "256 bytes, reserved at start";
    /// Peers per shard that strangers cannot displace; 0 for three quarters of `max_peers`.
    max_proven_peers: u32 = 0, 0 to 8_388_608; "peers"; "none";
    /// Peers of one prefix that may be proven, per shard; 0 for no bound.
    max_proven_per_prefix: u32 = 0, 0 to 8_388_608; "peers"; "8 bytes a peer";
    /// New peers of unproven address that one prefix may have in about a second, per shard; 0 for no bound.
    newcomers_per_prefix: u32 = 4_096, 0 to 16_777_216; "peers"; "none";
    /// Paths per peer.
    max_paths_per_peer: u8 = 4, 1 to 64; "paths"; "none";
    /// After how long a silent peer is closed; none if it never is.
    idle_timeout: Option<Duration> = Some(Duration::from_secs(120)), 8 to 86_400_000 as "idle_timeout_ms"; "ms"; "none";
    /// Bytes to an unproven address for each byte that came from it; 0 for no limit.
    amplification_limit: u32 = 0, 0 to 1_000_000; "bytes"; "none";
    /// Stateless answers to one address in a second, per shard; 0 for no bound.
    stateless_answers_per_second: u32 = 200_000, 0 to 4_294_967_295; "answers"; "32 KiB per shard, a hash per answer";
    /// When peers get sockets of their own.
    tier: TierPolicy = TierPolicy::Listener; ""; "see `max_connected`";
    /// How peers get sockets of their own.
    accept: AcceptChoice = AcceptChoice::Auto; ""; "see `max_connected`";
    /// Peers with sockets of their own, in the whole process; none for what fits.
    max_connected: Option<u32> = None, 0 to 1_048_576; "peers"; "a descriptor, 2 KiB of kernel memory, 10 to 70 us to make";
    /// Of those, at one local address; none for what is cheap.
    max_connected_per_address: Option<u32> = None, 0 to 1_048_576; "peers"; "10 ns to make each further one";

    /// Longest datagram received whole.
    max_datagram: u32 = 65_507, 1 to 65_527; "bytes"; "the pages of a receive buffer that datagrams reach";
    /// Receive buffers per shard, a power of two.
    receive_buffers: u16 = 256, 8 to 32_768; "buffers"; "see `max_datagram`";
    /// Submission entries of a shard's ring.
    submission_entries: u16 = 256, 4 to 32_768; "entries"; "350 bytes, 64 of them locked";
    /// Completion entries of a shard's ring; 8 at least, or 0 for as many as follow from the other two.
    completion_entries: u32 = 0, 0 to 65_536; "entries"; "16 bytes, locked";
    /// What callbacks may copy into the outbox in one turn.
    outbox_bytes: u32 = 4_194_304, 65_536 to 1_073_741_824; "bytes"; "itself";
    /// Datagrams that may be queued in one turn.
    outbox_datagrams: u32 = 16_384, 1 to 1_048_576; "datagrams"; "160 bytes";
    /// What may wait for one peer when a socket's buffer is full.
    send_queue_bytes: u32 = 262_144, 4_096 to 67_108_864; "bytes"; "itself, when it fills";
    /// The same for all peers of a shard together.
    send_backlog_bytes: u32 = 16_777_216, 65_536 to 1_073_741_824; "bytes"; "itself, when it fills";
    /// Messages waiting for a shard.
    mailbox_len: u32 = 4_096, 1 to 1_048_576; "messages"; "a message";
    /// Timers per shard.
    max_timers: u32 = 262_144, 1 to 16_777_216; "timers"; "64 bytes beside the value, reserved at start";
    /// Lookups of names under way per shard.
    max_lookups: u32 = 256, 1 to 65_536; "lookups"; "50 bytes, from the first one on";

    /// Receives handled in a turn before sends leave.
    turn_budget: u32 = 64, 1 to 65_536; "receives"; "latency, or time per datagram";
    /// Time for each kind of work in a turn.
    turn_time_us: u32 = 500, 10 to 1_000_000; "us"; "latency, or time per datagram";
    /// Timers and messages handled in a turn, each.
    event_budget: u32 = 256, 1 to 65_536; "events"; "latency, or time per event";
    /// What a shard gives peers to send more; 0 for nothing.
    gather_us: u32 = 100, 0 to 10_000; "us"; "that much latency for peers that send many in a row";
}

// The table states the longest payload as a number, for its readers.
const _: () = assert!(MAX_PAYLOAD_V6 == 65_527 && MOST_COMPLETIONS == 65_536);

/// What follows from several settings, or from one in another form.
impl Settings {
    /// Peers that strangers cannot displace.
    pub(crate) fn reserved_peers(&self) -> usize {
        let share = self.max_peers - self.max_peers.div_ceil(4);
        (if self.max_proven_peers == 0 { share } else { self.max_proven_peers }) as usize
    }

    /// Completion entries of a ring, those derived from the other settings included.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let entries = |config: Config| config.settings().completion_capacity();
    /// assert_eq!(entries(Config::new()), 4 * 256);
    /// assert_eq!(entries(Config::new().receive_buffers(8)), 2 * 256);
    /// assert_eq!(entries(Config::new().submission_entries(8).completion_entries(8)), 8);
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

    /// How long a shard gives peers to send more; `None` if it does not.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().gather_us(20).settings().gather_time(), Some(Duration::from_micros(20)));
    /// assert_eq!(Config::new().gather_us(0).settings().gather_time(), None);
    /// ```
    pub fn gather_time(&self) -> Option<Duration> {
        (self.gather_us > 0).then(|| Duration::from_micros(self.gather_us.into()))
    }

    /// How long each kind of work may take of a turn.
    pub(crate) fn turn_time(&self) -> Duration {
        Duration::from_micros(self.turn_time_us.into())
    }
}

/// A type whose values have a range in the table.
trait Ranged {
    /// The value in the unit of its row, if it is outside.
    fn outside(&self, low: u64, high: u64) -> Option<u64>;
}

macro_rules! ranged {
    ($($number:ty)+) => {
        $(impl Ranged for $number {
            fn outside(&self, low: u64, high: u64) -> Option<u64> {
                let value = u64::from(*self);
                (value < low || value > high).then_some(value)
            }
        })+
    };
}

ranged!(u8 u16 u32 u64);

/// What is not set has no range to be out of.
impl<T: Ranged> Ranged for Option<T> {
    fn outside(&self, low: u64, high: u64) -> Option<u64> {
        self.as_ref()?.outside(low, high)
    }
}

/// Times have ranges in milliseconds, and are compared as they are. What is outside is rounded away from the range, so
/// that the number in the error is outside too.
impl Ranged for Duration {
    fn outside(&self, low: u64, high: u64) -> Option<u64> {
        if *self > Self::from_millis(high) {
            return Some(self.as_nanos().div_ceil(1_000_000) as u64);
        }
        (*self < Self::from_millis(low)).then_some(self.as_millis() as u64)
    }
}

/// Of a list it is the length.
impl<T> Ranged for Vec<T> {
    fn outside(&self, low: u64, high: u64) -> Option<u64> {
        (self.len() as u64).outside(low, high)
    }
}

fn check(field: &'static str, value: &impl Ranged, low: u64, high: u64) -> Result<(), ConfigError> {
    match value.outside(low, high) {
        None => Ok(()),
        Some(value) => Err(ConfigError::OutOfRange { field, value, low, high }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn times_are_in_range_from_end_to_end_and_no_further() {
        let checked = |time| Config::new().idle_timeout(time).validate();
        let (least, most) = (Duration::from_millis(8), Duration::from_secs(86_400));
        for time in [None, Some(least), Some(most)] {
            assert_eq!(checked(time), Ok(()));
        }
        let (short, long) = (least - Duration::from_nanos(1), most + Duration::from_nanos(1));
        let text = |time| checked(Some(time)).expect_err("out of range").to_string();
        assert_eq!(text(short), "idle_timeout_ms = 7 is out of range: it must be 8 to 86400000");
        assert!(text(long).starts_with("idle_timeout_ms = 86400001 is out of range"));
    }

    #[test]
    fn what_is_not_set_is_in_range() {
        assert_eq!(Config::new().max_restarts_per_minute(None).validate(), Ok(()));
        let error = Config::new().max_connected(1_048_577).validate().expect_err("too many");
        let text = "max_connected = 1048577 is out of range: it must be 0 to 1048576";
        assert_eq!(error.to_string(), text);
    }
}
