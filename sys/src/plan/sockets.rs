//! Which sockets an address takes that is listened on, and the steps to open each.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::Receivers;

use super::{Balancing, Beside, Exclusive, Os, Sharing, Unsupported};

/// One step to open a socket, after its options are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Take SO_REUSEADDR back, in case the hook set it: on Linux it lets any other socket of the host steal datagrams.
    NoReuseAddress,
    /// Turn SO_REUSEPORT on or off.
    ReusePort(bool),
    /// Turn SO_REUSEPORT_LB on.
    ReusePortBalanced,
    /// Turn SO_EXCLUSIVEADDRUSE on.
    ExclusiveUse,
    /// Attach the program that names the shard of each flow. Where the kernel refuses it, the kernel chooses.
    Steer,
    /// Bind to the address; with port 0, to the port that the first bind of the plan was given.
    Bind,
}

/// What a socket is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It finds out whether the port is free, and which one for port 0, and makes way.
    Probe,
    /// It makes the kernel found a port group and is closed again; opened only if no program has founded one.
    Founder,
    /// It receives. Its place among those is the number of its shard.
    Listener,
}

/// One socket of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketPlan {
    /// What it is for.
    pub role: Role,
    /// The steps, in order.
    pub steps: &'static [Step],
}

/// How one address is listened on.
///
/// ```
/// use shardgram_sys::plan::{ListeningPlan, Os, Role, Sharing};
/// let plan = ListeningPlan::fresh(Os::Windows, 4, Sharing::OneReceiver);
/// assert_eq!(plan.sockets.len(), 1);
/// assert_eq!(plan.sockets[0].role, Role::Listener);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListeningPlan {
    /// The sockets, in the order in which they are opened.
    pub sockets: Vec<SocketPlan>,
    /// How many shards receive.
    pub sharing: Sharing,
    /// Who chooses among the sockets where none of them has taken a program, and why.
    pub chooses: &'static str,
}

use Step::{Bind, ExclusiveUse, NoReuseAddress, ReusePort, ReusePortBalanced, Steer};

/// The first listener of a port nobody has. Attaching the program with the option set founds the port group, so that
/// flows go where it says from the first datagram on. With it attached this kernel refuses to share the port anyway;
/// where it was refused, the missing option alone makes the bind exclusive.
const LINUX_FIRST: &[Step] =
    &[NoReuseAddress, ReusePort(true), Steer, ReusePort(false), Bind, ReusePort(true)];
/// A socket's index in the group is the order of its bind, and the program's answer is an index: so the order of binds
/// is that of the shards.
const LINUX_NEXT: &[Step] = &[NoReuseAddress, ReusePort(true), Bind];
/// Beside a wildcard of this process: its sockets conflict with an exclusive bind, so the option is there from the start,
/// and the bind itself founds the group. A program that is attached before such a bind makes the kernel refuse it.
const LINUX_BESIDE: &[Step] = &[NoReuseAddress, ReusePort(true), Bind, Steer];
/// Alone, so that nobody can join.
const LINUX_ALONE: &[Step] = &[NoReuseAddress, ReusePort(false), Bind];
const BALANCED: &[Step] = &[ReusePortBalanced, Bind];
const EXCLUSIVE: &[Step] = &[ExclusiveUse, Bind];
const PLAIN: &[Step] = &[Bind];

const fn listener(steps: &'static [Step]) -> SocketPlan {
    SocketPlan { role: Role::Listener, steps }
}

impl Os {
    /// How many shards receive at one address. One shard is every shard, unless one receiver is asked for.
    ///
    /// # Errors
    /// What was asked for cannot be had.
    pub fn sharing(self, asked: Receivers, shards: u16) -> Result<Sharing, Unsupported> {
        let balancing = self.balancing();
        let balanced = balancing.is != Balancing::Nobody;
        match asked {
            Receivers::One => Ok(Sharing::OneReceiver),
            _ if shards <= 1 => Ok(Sharing::PerShard),
            Receivers::PerShard if !balanced => Err(Unsupported {
                setting: "receivers",
                value: asked.to_string(),
                os: self,
                because: balancing.because,
                remedy: "ask for auto, or for one shard",
            }),
            _ if balanced => Ok(Sharing::PerShard),
            _ => Ok(Sharing::OneReceiver),
        }
    }

    /// In which order addresses are bound, as numbers of them: specific ones first where the kernel prefers what was
    /// there first.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// let all = ["0.0.0.0:53".parse().unwrap(), "192.0.2.1:53".parse().unwrap()];
    /// assert_eq!(Os::Windows.bind_order(&all), [1, 0]);
    /// assert_eq!(Os::Linux.bind_order(&all), [0, 1]);
    /// ```
    #[must_use]
    pub fn bind_order(self, addresses: &[SocketAddr]) -> Vec<usize> {
        let mut order: Vec<_> = (0..addresses.len()).collect();
        if self.beside_wildcard().is == Beside::IfFirst {
            order.sort_by_key(|&at| addresses[at].ip().is_unspecified());
        }
        order
    }

    /// Whether a listener at this address has to hear of each datagram where it was sent to. Only a wildcard's has,
    /// everywhere: elsewhere the socket's own address says it, and not every system tells it right
    /// ([`Os::specific_packet_info`]).
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// assert!(Os::MacOs.needs_packet_info([0, 0, 0, 0].into()));
    /// assert!(!Os::MacOs.needs_packet_info([192, 0, 2, 1].into()));
    /// ```
    #[must_use]
    pub const fn needs_packet_info(self, address: IpAddr) -> bool {
        address.is_unspecified()
    }
}

impl ListeningPlan {
    /// A port that nobody has a part of.
    #[must_use]
    pub fn fresh(os: Os, shards: u16, sharing: Sharing) -> Self {
        let several = sharing == Sharing::PerShard;
        let balancing = os.balancing();
        let sockets = match (balancing.is, os.exclusive().is) {
            (Balancing::Program, _) if several => {
                let mut sockets = vec![listener(LINUX_FIRST)];
                if shards == 1 {
                    // A lone listener of which nothing has founded the group: a second member does, and the group
                    // outlives it.
                    sockets.push(SocketPlan { role: Role::Founder, steps: LINUX_NEXT });
                }
                sockets.extend((1..shards).map(|_| listener(LINUX_NEXT)));
                sockets
            }
            (Balancing::Program, _) => vec![listener(LINUX_ALONE)],
            (Balancing::Kernel, _) if several => {
                let mut sockets = vec![SocketPlan { role: Role::Probe, steps: PLAIN }];
                sockets.extend((0..shards).map(|_| listener(BALANCED)));
                sockets
            }
            (_, Exclusive::Option) => vec![listener(EXCLUSIVE)],
            (_, Exclusive::PlainBind) => vec![listener(PLAIN)],
        };
        let chooses = if several { balancing.because } else { "one shard receives and forwards" };
        Self { sockets, sharing, chooses }
    }

    /// A specific address beside a wildcard that this process listens on by such sockets for every shard.
    ///
    /// # Errors
    /// The reason, where the system has no such thing, or where nothing is gained by it since only one shard receives.
    pub fn beside(os: Os, shards: u16) -> Result<Self, &'static str> {
        let (beside, balancing) = (os.beside_wildcard(), os.balancing());
        if beside.is != Beside::Preferred {
            return Err(beside.because);
        }
        let first = listener(LINUX_BESIDE);
        let sockets = std::iter::once(first).chain((1..shards).map(|_| listener(LINUX_NEXT))).collect();
        Ok(Self { sockets, sharing: Sharing::PerShard, chooses: balancing.because })
    }
}
