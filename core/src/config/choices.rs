//! Settings that are a choice among a few, each with a name.

use std::fmt;
use std::time::Duration;

use crate::types::names::named;

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

named!(Backend, "backend", { "auto" => Auto, "uring" => Uring, "mio" => Mio });

/// When peers get sockets of their own, where the driver has them ([`crate::Config::max_connected`]).
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

named!(TierPolicy, "tier", { "listener" => Listener, "connected" => Connected, "adaptive" => Adaptive });

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

named!(AcceptChoice, "way to accept", { "auto" => Auto, "side-group" => SideGroup, "same-group" => SameGroup });

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

named!(WaitPolicy, "wait", { "block" => Block, "spin" => Spin }
    or "spin:50us and the like" => SpinFor, write_spin, read_spin);

fn write_spin(time: &Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "spin:{}", humantime::format_duration(*time))
}

fn read_spin(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.strip_prefix("spin:")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_may_be_is_said_where_it_is_none() {
        let error = "spin:soon".parse::<WaitPolicy>().expect_err("no time");
        let text = "unknown wait 'spin:soon': it is block, spin or spin:50us and the like";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn what_is_written_is_read() {
        let some = Duration::from_micros(50);
        for policy in [WaitPolicy::Block, WaitPolicy::Spin, WaitPolicy::SpinFor(some)] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
    }
}
