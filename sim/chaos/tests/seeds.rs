//! Fixed seeds pass, are the same again, and reach what there is to reach.

use shardgram_chaos::{Plan, Reached, run};

/// Seeds that are run in each test; `.ci/run` runs many more.
const SEEDS: std::ops::Range<u64> = 4_000..4_150;

/// What has come of each call, decision and counter somewhere in those seeds, but for broadcasts, which the run does not
/// have. Whoever adds to the interface adds to the handlers of this crate, and to this.
const HAVE_TO_HAPPEN: &str = "
accept: Peer, Connect, Done, Reply, Drop, PathOf a peer, PathOf a peer elsewhere, PathOf nobody,
    PathOf nobody elsewhere
callback: accept, on_closed, on_datagram, on_drain, on_message, on_peer_error, on_start, on_timer, on_train,
    on_turn_end, on_writable, on_attempt, on_group_error
closed: Asked, Idle, EndpointClosed, AddressGone, Restarted, Panicked, Drained, Displaced
panic: own, with a source
ending: Drained, DrainDeadline, Stopped, TooManyRestarts
on_drain: WhenIdle, WhenPeersGone
factory: panicked
send: Ok, Gone, Full, TooLong, Unvalidated
full: outbox_datagrams, send_queue_bytes
slot: Ok, Gone, Full, Unvalidated, dropped, too long
reply: Ok, Full, TooLong, Unvalidated
reply_train: Ok, Full
send_shared: Ok, Full, Unvalidated, Stale
answer: Ok, Gone, Full, Unvalidated, TooManyAnswers
open: Ok, TableFull, InUse, NoSuchEndpoint, NoSuchListener, PortZero, NotHere, FamilyMismatch, Ending, OwnAddress
endpoint: Ok, Full
close_endpoint: Ok, again
close: open, stale
promote: Listener, Connected, none
demote: Listener, none
use_path: moved, the same, Gone
drop_path: Ok, InUse, Gone
set_timer: Ok, Full
set_peer_timer: Ok, Full, Gone
cancel: Ok, None
timer: of a peer
tell: Ok, Full, nowhere
message: of a shard, of a handle
peer error: Refused, Unreachable, TooLong, NotOpened, Unresolved, NoAnswer
datagram: truncated
action: flap
kill: done
restart: started again, has no address
stall: done
interface: went, came
probe: heard
translator: new, known, let in, kept out, forgot, moved
flood: nobody's, few hosts, as a client, complete, ended, arrived, again and again, against a full table
dial: Ok, TableFull, LookupsFull, NoSuchEndpoint
redial: Ok, NotDialed
join: Ok, NotMulticast, NoSuchSocket, NoListener, MixedHearers
leave: Ok, NoSuchSocket, NoListener
group error: AlreadyJoined, NotJoined, UnknownInterface, NoSuchSocket
group: by a listener, by an endpoint, by a client, a peer on each shard, begun anew, probed
client: joined, left
cookie: Ok
set_ecn: Ok
validated: Ok
validated_path: Ok
config: shards, max_peers, max_proven_peers, max_proven_per_prefix, newcomers_per_prefix, max_paths_per_peer, max_datagram, receive_buffers, turn_budget, event_budget,
    outbox_bytes, outbox_datagrams, send_queue_bytes, send_backlog_bytes, mailbox_len, max_timers, max_endpoints,
    receive_socket_bytes, send_socket_bytes, amplification_limit, stateless_answers_per_second, max_restarts_per_minute, idle_timeout, trains, ecn,
    receive_timestamps, path_mtu, tier, wait, max_connected, max_connected_per_address
";

/// Counters that stay nought, because only a kernel brings it about or the simulator has it otherwise: what an endpoint
/// still held is discarded there (`Counts::discarded`), and refusals are told as errors of peers. Nor is anything broadcast
/// here, and what turns cost may be too little to be noted.
const NOT_HERE: [&str; 13] = [
    "broadcast_copies",
    "dropped_malformed",
    "dropped_control_cut",
    "dropped_closed",
    "trains_refused",
    "handovers_timed_out",
    "send_waiting",
    "held_back",
    "send_failed_refused",
    "promotion_ns",
    "listeners_deaf",
    "foreign_sockets",
    "longest_turn",
];

#[test]
fn fixed_seeds_pass_and_reach_everything() {
    let mut reached = Reached::default();
    for seed in SEEDS {
        let plan = Plan::of(seed);
        let report = run(&plan, false);
        assert_eq!(report.failure, None, "replay: {}", plan.command());
        reached.add(&report.reached);
    }
    // A line that goes on begins with a blank.
    let table = HAVE_TO_HAPPEN.trim().replace("\n ", " ");
    let calls = table.lines().filter_map(|line| line.split_once(':'));
    let outcomes = calls.flat_map(|(call, all)| all.split(',').map(move |outcome| (call, outcome.trim())));
    let missing: Vec<_> = outcomes.filter(|(call, outcome)| reached.count(call, outcome) == 0).collect();
    assert_eq!(missing, [], "nothing of this happened");
    let counters = shardgram_core::Snapshot::default().named();
    let names = counters.iter().map(|(name, _)| name.as_str()).filter(|name| !NOT_HERE.contains(name));
    let unmoved: Vec<_> = names.filter(|name| reached.counter(name) == 0).collect();
    assert_eq!(unmoved, Vec::<&str>::new(), "these counters never moved");
}

#[test]
fn a_run_is_the_same_again() {
    for seed in [3, 27] {
        let [first, second] = [(); 2].map(|()| run(&Plan::of(seed), false));
        assert_eq!((first.log_hash, first.steps), (second.log_hash, second.steps));
        assert_eq!(first.reached, second.reached);
    }
}

#[test]
fn a_part_of_a_plan_is_run_alone() {
    let all = run(&Plan::of(1), false);
    let none = run(&Plan { keep: Some(Vec::new()), ..Plan::of(1) }, false);
    assert!(none.failure.is_none() && none.actions == (all.actions.0, 0) && none.datagrams < all.datagrams);
    let command = Plan { keep: Some(vec![0..2, 5..6]), ..Plan::of(1) }.command();
    assert!(command.ends_with("--seed 1 --keep 0-2,5-6"), "{command}");
}
