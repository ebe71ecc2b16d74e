//! Groups that handlers join and leave while they run, and whose datagrams are handled where they arrive.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::context::Io;
use crate::datagram::{Datagram, Meta, SocketId};
use crate::driver::Driver;
use crate::endpoints::Via;
use crate::handler::Handler;
use crate::multicast::{Hearers, JoinError, MAX_MEMBERSHIPS, Membership};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Join,
    Leave,
}

/// What a handler has asked for.
#[derive(Debug)]
struct Request {
    what: What,
    via: Via,
    /// Of an endpoint it may be another's by the time the request is carried out.
    socket: SocketId,
    membership: Membership,
}

/// A request that came to nothing.
pub(crate) type Failed = (Via, Membership, JoinError);

#[derive(Debug)]
pub(crate) struct Groups {
    requests: VecDeque<Request>,
    /// What was joined on listeners since the handler began, and which groups of the configuration were left. A fresh
    /// handler begins with those of the configuration.
    joined: Vec<(SocketId, Membership)>,
    left: Vec<(SocketId, Membership)>,
    /// Groups of the configuration that every shard hears.
    everywhere: Vec<IpAddr>,
    /// Those that one shard hears.
    alone: Vec<IpAddr>,
    /// What failed and the handler was not yet told of.
    pub(crate) failed: VecDeque<Failed>,
    /// Whether every shard's listener gets its copy of a broadcast.
    pub(crate) copies: bool,
    /// Where the datagram at hand was sent to, if it was sent to many.
    pub(crate) current: IpAddr,
}

impl Groups {
    pub(crate) fn new(configured: &[Membership], copies: bool) -> Self {
        let (everywhere, alone): (Vec<_>, Vec<_>) = configured.iter().partition(|one| is_everywhere(one));
        let [everywhere, alone] =
            [everywhere, alone].map(|all| all.into_iter().map(Membership::group).collect());
        Self {
            requests: VecDeque::new(),
            joined: Vec::new(),
            left: Vec::new(),
            everywhere,
            alone,
            failed: VecDeque::new(),
            copies,
            current: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Where the datagram or train at hand was sent to, if that stands for many hosts.
    pub(crate) fn of(&self, meta: Meta) -> Option<IpAddr> {
        meta.to_many.then_some(self.current)
    }

    /// Whether the datagram at hand, which was sent to many, is handled by the shard that received it.
    pub(crate) fn stays_here(&self) -> bool {
        let joined = |(_, one): &(SocketId, Membership)| one.group() == self.current && is_everywhere(one);
        self.everywhere.contains(&self.current) || self.joined.iter().any(joined)
    }

    /// Whether a peer may live on another shard than the one that owns its address, because of a group.
    pub(crate) fn any_stay_here(&self) -> bool {
        !self.everywhere.is_empty() || self.joined.iter().any(|(_, one)| is_everywhere(one))
    }

    /// Whether every shard is to hear a group of which the configuration, or another membership on this shard's listeners,
    /// says that one does, or the other way round. What was asked for and not carried out yet counts as done.
    fn is_mixed(&self, membership: &Membership) -> bool {
        let (group, everywhere) = (membership.group(), is_everywhere(membership));
        let configured = if everywhere { &self.alone } else { &self.everywhere };
        let others = |one: &Membership| one.group() == group && is_everywhere(one) != everywhere;
        let is_left = |socket: SocketId, one: &Membership, since: usize| {
            let leaves = |request: &Request| {
                request.what == What::Leave
                    && request.socket == socket
                    && request.membership.is_for_the_same(one)
            };
            self.requests.iter().skip(since).any(leaves)
        };
        let joined = |(socket, one): &(SocketId, Membership)| others(one) && !is_left(*socket, one, 0);
        let asked = |(at, request): (usize, &Request)| {
            let Request { what, socket, membership: one, .. } = request;
            *what == What::Join
                && socket.as_listener().is_some()
                && others(one)
                && !is_left(*socket, one, at + 1)
        };
        configured.contains(&group)
            || self.joined.iter().any(joined)
            || self.requests.iter().enumerate().any(asked)
    }

    fn done(&mut self, what: What, socket: SocketId, membership: Membership) {
        if socket.as_listener().is_none() {
            return; // it goes with its endpoint
        }
        // What takes back what the handler did before leads back to the configuration.
        let (done, undone) = match what {
            What::Join => (&mut self.joined, &mut self.left),
            What::Leave => (&mut self.left, &mut self.joined),
        };
        let before = undone.len();
        undone.retain(|(of, one)| !(*of == socket && one.is_for_the_same(&membership)));
        if undone.len() == before {
            done.push((socket, membership));
        }
    }

    /// Leaves what a handler that failed had joined, joins what it had left, and forgets what it asked for.
    pub(crate) fn begin_anew(&mut self, driver: &mut impl Driver) {
        self.requests.clear();
        self.failed.clear();
        for (socket, membership) in self.joined.drain(..) {
            if let Err(error) = driver.leave(socket, &membership) {
                tracing::warn!(%membership, %error, "a group that a failed handler had joined was not left");
            }
        }
        // Afterwards, since a socket cannot have a group for any source and for one.
        for (socket, membership) in self.left.drain(..) {
            if let Err(error) = driver.join(socket, &membership) {
                tracing::warn!(%membership, %error, "a group that a failed handler had left was not joined again");
            }
        }
    }
}

fn is_everywhere(membership: &Membership) -> bool {
    membership.hearers() == Hearers::EveryShard
}

/// Multicast groups.
impl<H: Handler> Io<H> {
    /// Joins a group, on an endpoint or on this shard's socket of a listener ([`Via::Listener`] with the address
    /// listened on, as [`Io::listeners`] has it), which has to be bound to a wildcard address. It is joined with the next
    /// turn, before what is queued meanwhile leaves. Should the system refuse, [`Handler::on_group_error`] says so.
    ///
    /// An endpoint lets what comes to a group through if it takes any source ([`crate::Endpoint::any_source`]). With it
    /// a feed is handled where it is received. A listener's hands each datagram to the shard that owns its sender, unless
    /// the membership is one of [`Membership::every_shard`].
    ///
    /// What a handler that panicked had joined is left when another takes over, and what it had left is joined again.
    ///
    /// On listeners a group is heard either by every shard or by one: [`JoinError::MixedHearers`] compares with the
    /// configuration, whether or not its groups were left meanwhile, and with what this shard has joined. That other shards
    /// join it in the same way is the handlers' to see to.
    ///
    /// # Errors
    /// See [`JoinError`]: what can be told at once.
    ///
    /// ```
    /// use shardgram_core::{Context, Endpoint, EndpointId, Handler, Interface, Membership, Via};
    /// fn listen_for_printers<H: Handler>(cx: &mut Context<'_, H>) -> Option<EndpointId> {
    ///     let mdns = Endpoint::bound(([0, 0, 0, 0], 5353).into()).any_source(true);
    ///     let socket = cx.io.endpoint(mdns).ok()?;
    ///     let group = Membership::any_source([224, 0, 0, 251]).on(Interface::named("eth0").ok()?);
    ///     cx.io.join(Via::Endpoint(socket), group).ok()?;
    ///     Some(socket)
    /// }
    /// ```
    pub fn join(&mut self, via: Via, membership: Membership) -> Result<(), JoinError> {
        membership.check()?;
        self.ask_for_group(What::Join, via, membership)
    }

    /// Leaves a group that was joined in this very way: same group, source and interface. With the next turn; what has
    /// come by then is still handed over. Closing an endpoint leaves all its groups. A group of the configuration that was left
    /// stays so until it is joined again, or until another handler takes over from one that panicked.
    ///
    /// # Errors
    /// See [`JoinError`]: what can be told at once.
    ///
    /// ```
    /// use shardgram_core::{EndpointId, Handler, Interface, Io, JoinError, Membership, Via};
    /// fn enough<H: Handler>(io: &mut Io<H>, socket: EndpointId, by: Interface) -> Result<(), JoinError> {
    ///     io.leave(Via::Endpoint(socket), Membership::any_source([224, 0, 0, 251]).on(by))
    /// }
    /// ```
    pub fn leave(&mut self, via: Via, membership: Membership) -> Result<(), JoinError> {
        self.ask_for_group(What::Leave, via, membership)
    }

    /// The multicast group or the broadcast address that the datagram at hand was sent to; `None` if that was an address
    /// of this host alone. For the datagram that the callback was given.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io};
    /// fn is_a_search<H: Handler>(io: &Io<H>, datagram: &Datagram<'_>) -> bool {
    ///     io.group(datagram) == Some([239, 255, 255, 250].into()) && datagram.starts_with(b"M-SEARCH")
    /// }
    /// ```
    pub fn group(&self, datagram: &Datagram<'_>) -> Option<IpAddr> {
        self.groups.of(datagram.meta)
    }

    fn ask_for_group(&mut self, what: What, via: Via, membership: Membership) -> Result<(), JoinError> {
        let (socket, bound) = self.socket_of(via).ok_or(JoinError::NoSuchSocket)?;
        let group = membership.group();
        if !bound.ip().is_unspecified() || bound.is_ipv4() != group.is_ipv4() {
            return Err(JoinError::NoListener { group });
        }
        let shared = matches!(via, Via::Listener(_)) && self.shards() > 1 && !self.groups.copies;
        if shared && is_everywhere(&membership) {
            return Err(JoinError::no_copies());
        }
        // What comes by an endpoint is handled by its shard, whatever the membership says.
        let by_listener = socket.as_listener().is_some();
        if what == What::Join && by_listener && self.groups.is_mixed(&membership) {
            return Err(JoinError::MixedHearers { group });
        }
        if self.groups.requests.len() >= MAX_MEMBERSHIPS {
            return Err(JoinError::TooMany { limit: MAX_MEMBERSHIPS });
        }
        self.groups.requests.push_back(Request { what, via, socket, membership });
        self.endpoints.ask_for_group();
        Ok(())
    }

    /// The socket and the address it was to be bound to.
    fn socket_of(&self, via: Via) -> Option<(SocketId, SocketAddr)> {
        match via {
            Via::Endpoint(id) => {
                let endpoint = self.endpoints.get(id)?;
                Some((SocketId::endpoint(id.slot()), endpoint.bind_address()))
            }
            Via::Listener(address) => {
                let index = self.listeners.iter().position(|listener| *listener == address)?;
                Some((SocketId::listener(index as u16), address))
            }
        }
    }

    /// Joins or leaves what was asked for next; whether that was done. What failed is noted.
    #[cold]
    pub(crate) fn carry_out_group(&mut self, driver: &mut impl Driver) -> bool {
        let Some(Request { what, via, membership, .. }) = self.groups.requests.pop_front() else {
            return true;
        };
        // Its endpoint may have been closed since.
        let Some((socket, _)) = self.socket_of(via) else { return true };
        let outcome = match what {
            What::Join => driver.join(socket, &membership),
            What::Leave => driver.leave(socket, &membership),
        };
        match outcome {
            Ok(()) => self.groups.done(what, socket, membership),
            Err(error) => {
                self.groups.failed.push_back((via, membership, error));
                return false;
            }
        }
        true
    }
}
