//! Faults that are planted in the framework are found, each within a minute, by seeds that find nothing without them.

use std::time::{Duration, Instant};

use shardgram_chaos::{Plan, run, shrink};
use shardgram_core::planted::{Fault, plant};

/// Seeds that are tried, one after the other.
const SEEDS: std::ops::Range<u64> = 1..6_000;
/// How long each fault may stay unfound.
const LIMIT: Duration = Duration::from_secs(60);

/// The first seed that finds a fault, and what it says.
fn find(fault: Fault) {
    plant(Some(fault));
    let start = Instant::now();
    for seed in SEEDS {
        let report = run(&Plan::of(seed), false);
        if let Some(failure) = &report.failure {
            let took = start.elapsed();
            println!("{fault:?}: seed {seed}, in {took:.2?}: {failure}");
            let shorter = shrink(&Plan::of(seed), &report, Duration::from_secs(3));
            println!("{}", shorter.command());
            assert!(took < LIMIT, "{fault:?} was found after {took:?} only");
            plant(None);
            let clean = run(&Plan::of(seed), false);
            assert_eq!(clean.failure, None, "seed {seed} fails without {fault:?}");
            return;
        }
        assert!(start.elapsed() < LIMIT, "{fault:?} was not found by seed {seed}");
    }
    panic!("{fault:?} was found by none of the seeds {SEEDS:?}");
}

macro_rules! faults {
    ($($test:ident: $fault:ident,)*) => {
        $(#[test]
        fn $test() {
            find(Fault::$fault);
        })*

        #[test]
        fn all_are_tried() {
            let tried = [$(Fault::$fault),*];
            assert!(Fault::ALL.iter().all(|fault| tried.contains(fault)));
        }
    };
}

faults! {
    a_reordered_handover: ReorderedHandover,
    a_leaked_buffer: LeakedBuffer,
    a_stale_id: StaleId,
    a_wrong_local_address: WrongLocalAddress,
    a_lost_wake_up: LostWakeUp,
    a_dropped_foreign_datagram: DroppedForeign,
    a_miscounted_drop: MiscountedDrop,
    a_double_timer: DoubleTimer,
    a_displaced_proven_peer: DisplacedProven,
    an_amplified_path: AmplifiedPath,
    an_open_gate: OpenGate,
    a_lost_rest: LostRest,
    a_refused_source_let_in: RefusedLetIn,
    peers_lost_over_a_panic: PeersLost,
    talk_with_oneself: TalkWithOneself,
    the_cookies_of_another_server: SameCookies,
    peers_left_behind_at_an_address: LeftBehind,
    an_address_that_comes_back_deaf: DeafAddress,
    a_socket_that_outlives_its_server: SocketOutlivesServer,
    a_late_timer_that_is_lost: LateTimerLost,
    groups_that_outlive_their_handler: GroupsOutliveHandler,
    copies_of_a_group_that_are_forwarded: CopiesForwarded,
    a_peer_that_is_caught_by_a_group: CaughtByGroup,
}
