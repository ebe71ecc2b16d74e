//! Sockets and operating system facts that the drivers of shardgram share.
//!
//! This crate opens sockets, reads and writes what system calls carry beside a payload
//! (addresses, control messages), and answers questions about the host. It knows nothing of
//! handlers, peers or rings; of the core crate it uses the rule that says which shard owns a flow, and the words of a
//! configuration (`Endpoint`, `Interface`, `Membership`, `PathMtu`, `Receivers`, `Capability`, `TrainLimits`).
//!
//! | module | holds | platforms |
//! | --- | --- | --- |
//! | [`listener_group`] | one port, one socket per shard or one for all, and the proof that nobody else has it | all |
//! | `local_listeners` | the listeners of a shard, and what changes about them | all |
//! | [`plan`] | what each system does, and how a port is listened on because of it; pure | all |
//! | [`socket`] | options of one socket, client endpoints, drop counter | all |
//! | `accept` | a socket of its own for a peer, beside listeners | Linux |
//! | `steering` | the kernel program that computes [`flow_shard`] | Linux |
//! | `addr` | socket addresses as the kernel lays them out | Linux |
//! | `grace` | when no delivery of the kernel is under way any more that was | Linux |
//! | `train` | several datagrams in one system call | Linux |
//! | `receive` | several datagrams received by one system call, with all that is reported of them | Linux |
//! | `cmsg` | control messages, read and written without unsafe code | Linux |
//! | [`interfaces`] | the addresses of this host, which of them answers what was sent to many, and on Linux a watch of them | all |
//! | [`multicast`] | groups: joined, left, and sent to | all |
//! | [`errno`] | the system's error numbers that have no [`std::io::ErrorKind`], one file a system | all |
//! | [`errors`] | what error numbers mean for a send and for a peer | all |
//! | `bound_sockets` | the sockets of a port that are connected to nobody | Linux |
//! | `port_holder` | who has a port that cannot be bound | all, tells on Linux |
//! | [`clocks`] | for how long the machine was suspended, and for how long a thread has run | all, tells on Linux |
//! | [`affinity`] | pinning a thread to a core | all |
//! | `limits` | the limits of open descriptors (Unix) and of locked memory (Linux) | Unix |
//! | `winsock` | what keeps a port ours and receives free of ICMP errors | Windows |
//!
//! Unsafe code lives in eight files: `addr.rs` (plain old C structs), `sockopt.rs` (options, and a
//! few calls that sockets need), `train.rs` (`sendmsg`), `receive.rs` (`recvmmsg`), `grace.rs` (`membarrier`), `clocks.rs` (`clock_gettime`), `limits.rs` (`getrlimit` and
//! `setrlimit`) and `winsock/windows.rs` (options of Windows). Each block there names what makes it sound; everything else is
//! denied the keyword.

#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod accept;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub mod addr;
pub mod affinity;
mod bind_error;
#[cfg(target_os = "linux")]
pub mod bound_sockets;
pub mod clocks;
#[cfg(target_os = "linux")]
pub mod cmsg;
mod drops;
#[cfg_attr(unix, path = "errno/unix.rs")]
#[cfg_attr(windows, path = "errno/windows.rs")]
pub mod errno;
pub mod errors;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub mod grace;
pub mod interfaces;
#[cfg(unix)]
#[allow(unsafe_code)]
pub mod limits;
pub mod listener_group;
mod local_listeners;
pub mod multicast;
pub mod plan;
mod port_holder;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod receive;
pub mod socket;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod sockopt;
#[cfg(target_os = "linux")]
pub mod steering;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod train;
#[cfg_attr(windows, allow(unsafe_code), path = "winsock/windows.rs")]
#[cfg_attr(not(windows), path = "winsock/other.rs")]
mod winsock;

#[cfg(target_os = "linux")]
pub use accept::{AcceptMode, AcceptSupport, accept_support};
#[cfg(target_os = "linux")]
pub use addr::RawAddr;
pub use affinity::AffinityError;
pub use bind_error::BindError;
#[cfg(target_os = "linux")]
pub use cmsg::{
    Control, ControlBuilder, ControlSpace, ErrorOrigin, NetworkError, RECV_CONTROL_SLACK, RECV_CONTROL_SPACE,
};
pub use drops::Drops;
pub use interfaces::InterfaceAddress;
pub use listener_group::{ListenerGroup, Steering};
pub use local_listeners::{Lease, ListenerChange, ListenerSocket, Usage, WantedAddress};
pub use plan::{Os, Sharing, Unsupported};
pub use port_holder::PortHolder;
#[cfg(target_os = "linux")]
pub use receive::{Discarded, Incoming, RECEIVE_BATCH, Receiver, discard};
pub use shardgram_core::flow::flow_shard;
pub use socket::{BufferWarning, SocketHook, SocketOptions};
#[cfg(target_os = "linux")]
pub use train::{Heading, TRAIN_LIMITS, send_message, send_train};
