//! Sockets as the driver takes them: with the options that quinn-udp needs, and without those it should not have set.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use quinn_udp::UdpSocketState;
use shardgram_sys::socket::{
    keeping_options, set_receive_ecn, set_receive_timestamps, set_receive_trains, stand_in,
};
use shardgram_sys::{Sharing, SocketOptions, errno};

/// The socket of an address that is listened on, as one shard has it: to receive and send, or to send only.
///
/// Where one shard receives for all, the others send by duplicates of its socket. They share everything but the
/// descriptor, so options are set once, before any of them is used.
///
/// ```
/// use shardgram_fallback::Listener;
/// use shardgram_sys::SocketOptions;
/// # fn main() -> std::io::Result<()> {
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let receiver = Listener::for_all(socket, &SocketOptions::default())?;
/// let other_shard = receiver.to_send_by()?;
/// assert!(receiver.receives() && !other_shard.receives());
/// assert_eq!(other_shard.local_addr()?, receiver.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: UdpSocket,
    pub(crate) state: Option<Arc<UdpSocketState>>,
    /// Whether handlers are to be told how what comes is marked.
    pub(crate) tells_ecn: bool,
    steered: bool,
    part: Part,
}

/// What its shard has to do with what arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// It receives what the system gives it.
    Own,
    /// It receives, for all shards.
    ForAll,
    /// Another shard receives.
    SendsOnly,
}

impl Listener {
    /// Takes over a socket that is bound, and was opened with `options`: one of several, each of which a shard receives
    /// by.
    ///
    /// # Errors
    /// The system's, if it refuses an option that cannot be done without.
    pub fn new(socket: UdpSocket, options: &SocketOptions) -> io::Result<Self> {
        let state = take_over(&socket, options)?;
        Ok(Self { socket, state, tells_ecn: options.ecn, steered: true, part: Part::Own })
    }

    /// Whether the system gives it what its shard owns, where it can ([`shardgram_sys::ListenerGroup::is_steered`]). Unless
    /// told otherwise it does.
    #[must_use]
    pub fn steered(self, steered: bool) -> Self {
        Self { steered, ..self }
    }

    /// As [`Listener::new`], the one by which its shard receives for all.
    ///
    /// # Errors
    /// As for [`Listener::new`].
    pub fn for_all(socket: UdpSocket, options: &SocketOptions) -> io::Result<Self> {
        Ok(Self { part: Part::ForAll, ..Self::new(socket, options)? })
    }

    /// A duplicate by which another shard sends (`dup(2)`, `WSADuplicateSocketW`).
    ///
    /// # Errors
    /// The system's: no descriptor is left.
    pub fn to_send_by(&self) -> io::Result<Self> {
        let (socket, state) = (self.socket.try_clone()?, self.state.clone());
        Ok(Self { socket, state, part: Part::SendsOnly, ..*self })
    }

    /// Whether its shard receives by it.
    #[must_use]
    pub fn receives(&self) -> bool {
        self.part != Part::SendsOnly
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Whether these are listeners of a shard of which each receives.
pub(crate) fn sharing(listeners: &[Listener]) -> Sharing {
    let own = listeners.iter().all(|listener| listener.part == Part::Own);
    if own { Sharing::PerShard } else { Sharing::OneReceiver }
}

/// Whether what comes by these can say more than its payload; without any, whether it could by an endpoint.
pub(crate) fn have_control(listeners: &[Listener]) -> bool {
    if listeners.is_empty() {
        return has_control(false) && has_control(true);
    }
    listeners.iter().all(|listener| listener.state.is_some())
}

/// Whether sockets of a family can have the control messages that say more of a datagram than its payload, found out with
/// one that does not stay. Where not, since a sandbox or a compatibility layer refuses an option that quinn-udp cannot do
/// without, datagrams come one by one, without congestion bits and times, and a wildcard answers from the address that
/// routing chooses. [`SocketOptions::receive_trains`] is to be off then.
///
/// ```
/// let told = if shardgram_fallback::has_control(false) { "sent to, marks" } else { "nothing" };
/// println!("of a datagram over IPv4 is told: {told}");
/// ```
#[must_use]
pub fn has_control(ipv6: bool) -> bool {
    match stand_in(ipv6).and_then(|socket| UdpSocketState::new((&socket).into())) {
        Err(error) if is_lacking(&error) => {
            tracing::debug!(%error, ipv6, "no control messages");
            false
        }
        // What else fails, as for a family that is not there, fails the sockets too.
        _ => true,
    }
}

/// Whether each shard gets what it owns by these.
pub(crate) fn are_steered(listeners: &[Listener]) -> bool {
    listeners.iter().all(|listener| listener.steered)
}

/// What quinn-udp keeps of sockets of each family, IPv4 first, where it is the same for all of them: on Linux, where it
/// receives by nothing of it, and this driver sends without it.
static STATES: [OnceLock<Arc<UdpSocketState>>; 2] = [OnceLock::new(), OnceLock::new()];

/// Sets what quinn-udp needs on a socket. `None` where the system lacks something that it cannot do without.
///
/// It makes the socket non-blocking and turns on, where the system has them: congestion bits and packet info. It also
/// forbids fragmentation, which is right for QUIC and wrong for a server whose long datagrams should arrive as they do
/// with the other driver; where the system lets it be taken back, it is ([`keeping_options`]).
///
/// # Errors
/// The system's; also what it lacks where marks or times were asked for, which cannot be had then.
pub(crate) fn take_over(
    socket: &UdpSocket,
    options: &SocketOptions,
) -> io::Result<Option<Arc<UdpSocketState>>> {
    let bound_to = socket.local_addr()?;
    let known = &STATES[usize::from(bound_to.is_ipv6())];
    let state =
        match keeping_options(socket, known, |socket| UdpSocketState::new(socket.into()).map(Arc::new)) {
            Ok(state) => Some(state),
            Err(error) if is_lacking(&error) && !(options.ecn || options.receive_timestamps) => {
                tracing::debug!(%error, %bound_to, "a socket without control messages");
                socket.set_nonblocking(true)?;
                None
            }
            Err(error) => return Err(error),
        };
    set_receive_ecn(socket, bound_to.is_ipv6(), options.ecn)?;
    set_receive_timestamps(socket, options.receive_timestamps)?;
    // A hook may have turned them on as well, and they are taken apart then too: a train that came meanwhile would be one
    // datagram if they were off by the time it is received. Without packet info nobody would say how long a train's
    // datagrams are.
    if options.receive_trains || state.is_none() {
        set_receive_trains(socket, state.is_some())?;
    }
    Ok(state)
}

/// Whether an error says that the system does not know an option or a call. Compatibility layers and sandboxes
/// lack some; Wine, for one, does not say of an IPv4 socket whether it is an IPv6 one.
fn is_lacking(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(errno::EOPNOTSUPP | errno::ENOPROTOOPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_system_lacks_is_told_from_what_fails() {
        for lacking in [errno::EOPNOTSUPP, errno::ENOPROTOOPT] {
            assert!(is_lacking(&io::Error::from_raw_os_error(lacking)));
        }
        assert!(is_lacking(&io::ErrorKind::Unsupported.into()));
        assert!(!is_lacking(&io::Error::from_raw_os_error(errno::EINVAL)));
    }
}
