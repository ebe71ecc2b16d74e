//! What a socket does by one interface, and what becomes of that when the interface is made anew.
//!
//! A membership, and the interface by which datagrams to groups leave, are kept by an interface's index. One that is made anew
//! has another index under the same name: the socket hears nothing of the group any more, and what it sends to groups is
//! refused. No call on it says so, and the membership that has come to nothing still counts against the system's limit.

use std::io;
use std::net::UdpSocket;

use shardgram_core::{Interface, JoinError, Membership};
use socket2::SockRef;

use super::{join, platform, set_interface};
use crate::BindError;
use crate::interfaces::{Tie, index_of};

/// A duplicate of a socket that has joined a group by a certain interface, or sends to groups by it. It keeps the socket
/// open, and its port taken.
///
/// ```
/// use std::net::{Ipv4Addr, UdpSocket};
/// use shardgram_core::{Interface, Membership};
/// use shardgram_sys::interfaces::Tie;
/// use shardgram_sys::multicast::{self, Followed};
///
/// let socket = UdpSocket::bind("0.0.0.0:0")?;
/// let group = Membership::any_source([239, 1, 2, 3]).on(Interface::of(Ipv4Addr::LOCALHOST));
/// multicast::join(&socket, &group).expect("the loopback interface takes groups");
/// let mut followed = Followed::membership(&socket, &group)?.expect("it names an interface");
/// assert_eq!(followed.look(), Ok(Tie::Holds));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Followed {
    socket: UdpSocket,
    interface: Interface,
    /// That of the interface by which it was done last.
    index: u32,
    /// `None` for sending.
    membership: Option<Membership>,
    /// It could be done with this index.
    is_done: bool,
    /// Somebody has left the group since, so it is not joined again.
    is_left: bool,
}

impl Followed {
    /// A membership that the socket has, if that names an interface. Takes a descriptor then.
    ///
    /// # Errors
    /// Those of `dup(2)`: `EMFILE`.
    pub fn membership(socket: &UdpSocket, membership: &Membership) -> io::Result<Option<Self>> {
        let followed = |interface| Self::new(socket, interface, Some(membership.clone()));
        membership.interface().map(followed).transpose()
    }

    /// The interface by which the socket sends to groups. Takes a descriptor.
    ///
    /// # Errors
    /// Those of `dup(2)`: `EMFILE`.
    pub fn sending(socket: &UdpSocket, interface: Interface) -> io::Result<Self> {
        Self::new(socket, interface, None)
    }

    fn new(socket: &UdpSocket, interface: Interface, membership: Option<Membership>) -> io::Result<Self> {
        // If it has gone since: 0 is the index of none, so it counts as another when it returns.
        let index = index_of(interface).unwrap_or(0);
        Ok(Self { socket: socket.try_clone()?, interface, index, membership, is_done: true, is_left: false })
    }

    /// The interface.
    #[must_use]
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// The membership; `None` if this is about sending.
    #[must_use]
    pub fn what(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Looks whether the interface is there, in the network namespace of the calling thread, and joins the group anew, or has
    /// the socket send by it, if another one has its name.
    ///
    /// # Errors
    /// See [`JoinError`]. It is tried again with the next look.
    pub fn look(&mut self) -> Result<Tie, JoinError> {
        if self.is_left {
            return Ok(Tie::Holds);
        }
        let Ok(index) = index_of(self.interface) else { return Ok(Tie::Broken) };
        if index == self.index && self.is_done {
            return Ok(Tie::Holds);
        }
        match &self.membership {
            None => self.send_by_it()?,
            Some(membership) => {
                let left = platform::leave_gone(&SockRef::from(&self.socket), membership, self.index);
                // One for a certain source may have gone with another of the group.
                if self.is_done && left.is_err() && membership.source().is_none() {
                    self.is_left = true;
                    return Ok(Tie::Holds);
                }
                self.is_done = false;
                self.index = index;
                match join(&self.socket, membership) {
                    Ok(()) | Err(JoinError::AlreadyJoined) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        (self.index, self.is_done) = (index, true);
        Ok(Tie::Mended)
    }

    fn send_by_it(&self) -> Result<(), JoinError> {
        let unbound =
            |error: io::Error| JoinError::System { errno: error.raw_os_error().unwrap_or(libc::EIO) };
        let address = self.socket.local_addr().map_err(unbound)?;
        set_interface(&SockRef::from(&self.socket), address, self.interface).map_err(|error| match error {
            BindError::ToGroups { source, .. } => source,
            _ => JoinError::System { errno: libc::EIO },
        })
    }
}
