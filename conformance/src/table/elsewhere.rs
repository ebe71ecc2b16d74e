//! What is shown by tests outside the suite.

use super::Driver;

/// What is shown outside the suite, since it takes a kernel's own devices, a namespace or a process.
///
/// ```
/// use shardgram_conformance::table::ELSEWHERE;
/// assert!(ELSEWHERE.iter().all(|test| test.file.ends_with(".rs")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elsewhere {
    /// The file, from the root of the workspace.
    pub file: &'static str,
    /// In a sentence.
    pub shows: &'static str,
    /// On which drivers.
    pub drivers: &'static [Driver],
}

const URING: &[Driver] = &[Driver::Uring];
const MIO: &[Driver] = &[Driver::Mio];
const ALL: &[Driver] = &[Driver::Uring, Driver::Mio, Driver::Sim];
const REAL: &[Driver] = &[Driver::Uring, Driver::Mio];

const fn elsewhere(drivers: &'static [Driver], file: &'static str, shows: &'static str) -> Elsewhere {
    Elsewhere { file, shows, drivers }
}

/// Every test file of `tests/behaviours` and `tests/programs` that shows something of drivers, once. All of it is on
/// Linux.
pub const ELSEWHERE: &[Elsewhere] = &[
    elsewhere(
        REAL,
        "tests/behaviours/bad_input.rs",
        "what anybody may forge ends nothing, is counted, and others are served",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/buffers_exhausted.rs",
        "a shard that runs out of receive buffers while a callback stalls recovers, and runs for nothing",
    ),
    elsewhere(
        URING,
        "tests/behaviours/closing_connected_peers.rs",
        "connected peers are closed while they flood: nothing is left over",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/completion_queue_overflow.rs",
        "a completion queue far too short loses nothing",
    ),
    elsewhere(
        URING,
        "tests/behaviours/connected.rs",
        "a peer gets a socket of its own and loses it again, and the kernel has it just so long",
    ),
    elsewhere(
        URING,
        "tests/behaviours/connected_caps.rs",
        "sockets of peers' own are bounded, and the one silent for longest gives way",
    ),
    elsewhere(
        URING,
        "tests/behaviours/demotion_loses_nothing.rs",
        "peers that flood while they are promoted and demoted lose nothing",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/ecn_out.rs",
        "a DSCP of a socket hook's stays beside the mark, in both tiers",
    ),
    elsewhere(
        URING,
        "tests/behaviours/foreign_datagrams.rs",
        "what comes by a peer's socket from somebody else goes where it belongs",
    ),
    elsewhere(
        URING,
        "tests/behaviours/handover_order.rs",
        "datagrams that wait at the listener come before those of the peer's new socket",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/messages.rs",
        "a message that comes while a shard is in the kernel sending is heard",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/panics.rs",
        "the log names shard, callback and source of a panic; bad datagrams of one address leave all others served",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/port_in_use.rs",
        "a port whose holder would share it is refused, with the remedy",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/socket_reports.rs",
        "a train stays a train whatever a socket hook has the kernel report, or is dropped and counted",
    ),
    elsewhere(
        REAL,
        "tests/programs/own_source.rs",
        "what says it comes from a listener of the process is dropped, and a client within is served",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/stale_completions.rs",
        "endpoints closed and opened anew under load receive nothing of their predecessors",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/submission_queue_small.rs",
        "a submission queue of four entries loses and reorders nothing",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/timestamps.rs",
        "a late handler sees the time of the arrival, in both tiers",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/wait_policy.rs",
        "a shard that blocks does not run, one that spins does, one that spins for a while sleeps then",
    ),
    elsewhere(
        ALL,
        "tests/behaviours/interface_not_there.rs",
        "an endpoint on an interface that is not there is reported to its peers",
    ),
    elsewhere(
        ALL,
        "tests/behaviours/listener_peers.rs",
        "peers opened from a listener's own port hear answers, whichever shard opened them",
    ),
    elsewhere(
        REAL,
        "tests/programs/interfaces.rs",
        "an endpoint on an interface sends by it and hears nothing else",
    ),
    elsewhere(
        ALL,
        "tests/behaviours/dialing.rs",
        "a host is dialed by name, its addresses in turn until one answers",
    ),
    elsewhere(
        REAL,
        "tests/programs/dial_example.rs",
        "the dial example: an answer by name, and an end where there is none",
    ),
    elsewhere(REAL, "tests/programs/dialing.rs", "addresses without a route are passed over at once"),
    elsewhere(
        REAL,
        "tests/behaviours/impossible_settings.rs",
        "settings that cannot be had are refused at bind, with the reason and a remedy",
    ),
    elsewhere(
        ALL,
        "tests/behaviours/mixed_hearers.rs",
        "a group is heard by every shard or by one, whenever it is joined",
    ),
    elsewhere(
        MIO,
        "tests/behaviours/one_receiver.rs",
        "one shard receives for all: each flow has its shard, and nothing is lost or counted twice on the way",
    ),
    elsewhere(
        MIO,
        "tests/programs/addresses_refused.rs",
        "where this host's addresses cannot be listed, a server that may get broadcasts says so",
    ),
    elsewhere(
        REAL,
        "tests/programs/broadcast.rs",
        "broadcasts are heard once, and sent only where that is allowed",
    ),
    elsewhere(
        REAL,
        "tests/programs/multicast.rs",
        "groups are heard as they were joined, each datagram by one shard",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/rooms.rs",
        "1,000 members who all speak at once hear each other, on one shard and on two, with the bounds by default",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/fairness.rs",
        "listeners that are flooded alike are served alike, however the shard waits and whatever its budget",
    ),
    elsewhere(
        REAL,
        "tests/behaviours/gathering.rs",
        "a peer that sends in a row is given time to send more, and nobody else is kept waiting",
    ),
    elsewhere(
        ALL,
        "tests/behaviours/groups.rs",
        "what is sent to a group or a broadcast address is heard once, by the shard that owns its sender, or by all",
    ),
    elsewhere(
        MIO,
        "tests/programs/control_refused.rs",
        "where control messages are refused nothing is claimed that takes them, and what was asked for is an error at bind",
    ),
    elsewhere(REAL, "tests/programs/daemon.rs", "a program may fork between binding and serving"),
    elsewhere(
        URING,
        "tests/programs/drop_privileges.rs",
        "a server bound by root becomes somebody else and still gives peers sockets",
    ),
    elsewhere(
        REAL,
        "tests/programs/echo_example.rs",
        "the echo example's ready line, its end, and what it says to bad input",
    ),
    elsewhere(REAL, "tests/programs/emfile.rs", "endpoints that find no descriptor say so"),
    elsewhere(
        URING,
        "tests/programs/emfile_in_accept.rs",
        "peers that find no descriptor stay with the listener",
    ),
    elsewhere(
        REAL,
        "tests/programs/few_descriptors.rs",
        "under a low limit of descriptors a server starts with what fits and says how much, or says why it does not start",
    ),
    elsewhere(
        REAL,
        "tests/programs/foreign_sockets.rs",
        "a socket of another process where a server listens is counted and warned of, and none of its own process is",
    ),
    elsewhere(
        URING,
        "tests/programs/forged_errors.rs",
        "forged errors of the network reach nobody else and stop nothing",
    ),
    elsewhere(
        REAL,
        "tests/programs/full_send_socket.rs",
        "what a full send socket refuses waits, in order and within bounds",
    ),
    elsewhere(
        REAL,
        "tests/programs/full_sockets_take_turns.rs",
        "what waits at one full socket does not wait for another's",
    ),
    elsewhere(
        URING,
        "tests/programs/grace_refused.rs",
        "where the kernel does not tell when its deliveries are over, sockets are closed by the clock, and nothing is lost",
    ),
    elsewhere(REAL, "tests/programs/idle.rs", "a server with nothing to do uses no CPU"),
    elsewhere(URING, "tests/programs/local_addresses.rs", "a wildcard follows the host's addresses"),
    elsewhere(
        REAL,
        "tests/programs/flapping_addresses.rs",
        "addresses and interfaces under a wildcard go and return under load: each flow reaches its shard afterwards",
    ),
    elsewhere(
        REAL,
        "tests/programs/interface_made_anew.rs",
        "a listener whose interface is made anew serves again, and counts as deaf until then",
    ),
    elsewhere(
        REAL,
        "tests/programs/marks_that_wait.rs",
        "what waits for room leaves with the mark it was queued with",
    ),
    elsewhere(
        URING,
        "tests/programs/memlock.rs",
        "an ordinary user who may lock little memory is served by smaller rings",
    ),
    elsewhere(REAL, "tests/programs/memory.rs", "two shards stay under 96 MiB"),
    elsewhere(REAL, "tests/programs/path_mtu.rs", "the path-MTU modes, in both tiers, behind routers"),
    elsewhere(
        URING,
        "tests/programs/peer_errors.rs",
        "what the network says of one peer reaches its handler",
    ),
    elsewhere(
        REAL,
        "tests/programs/refused_trains.rs",
        "trains that a path refuses leave one by one, in order",
    ),
    elsewhere(REAL, "tests/programs/restarts.rs", "a server that follows a killed one at once gets its port"),
    elsewhere(
        URING,
        "tests/programs/retire_refused.rs",
        "the socket of a peer that cannot be turned away from it goes all the same",
    ),
    elsewhere(
        URING,
        "tests/programs/send_credit.rs",
        "what is handed to a socket in one go fits into its send buffer",
    ),
    elsewhere(
        REAL,
        "tests/programs/shutdown_under_load.rs",
        "servers that end under load leave nothing behind",
    ),
    elsewhere(
        REAL,
        "tests/programs/source_address.rs",
        "replies leave from the address written to, on a host with several",
    ),
    elsewhere(
        REAL,
        "tests/programs/stalls.rs",
        "a shard that stands still says so, and closes nobody as idle whose datagrams waited meanwhile",
    ),
    elsewhere(
        REAL,
        "tests/programs/steering_refused.rs",
        "where the kernel refuses the steering program shards forward, and it is not claimed that they need not",
    ),
    elsewhere(
        REAL,
        "tests/programs/suspended.rs",
        "for how long the machine was suspended is read from the system's clocks",
    ),
    elsewhere(
        REAL,
        "tests/programs/threads_of_pinned_shards.rs",
        "names are looked up and addresses listed wherever the process may run, though shards are pinned",
    ),
    elsewhere(
        MIO,
        "tests/programs/trains_at_the_start.rs",
        "trains that come while a server starts which is to receive none come as their datagrams",
    ),
    elsewhere(
        REAL,
        "tests/programs/unprivileged.rs",
        "an ordinary user may serve; a privileged port is refused with the remedy",
    ),
    elsewhere(
        URING,
        "tests/programs/unsupported_flags.rs",
        "a kernel without the best flags of a ring serves with the next best",
    ),
    elsewhere(
        MIO,
        "tests/programs/uring_refused.rs",
        "where io_uring is refused, `auto` serves with mio and says why",
    ),
    elsewhere(
        URING,
        "tests/programs/vanished_peers.rs",
        "hundreds of peers that vanish during a fan-out end nothing, and others miss nothing",
    ),
];
