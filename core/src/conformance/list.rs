//! Each behaviour once, with its cases.

/// A behaviour of the suite.
///
/// ```
/// use shardgram_core::conformance::SUITE;
/// assert!(SUITE.iter().any(|behaviour| behaviour.name == "echo_sizes"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour {
    /// The name of its file.
    pub name: &'static str,
    /// Its cases, each of which is a test.
    pub cases: &'static [&'static str],
}

/// Makes a `#[test]` of every case of every behaviour, in a module for each behaviour.
///
/// It takes the path, from the root of the test program, of a function that makes a bed: `fn() -> Option<impl Bed>`. See
/// [`conformance`](mod@crate::conformance).
#[macro_export]
macro_rules! conformance {
    (@tests ($bed:path) $($behaviour:ident: { $($case:ident),+ $(,)? })+) => {
        $(
            mod $behaviour {
                $(
                    #[test]
                    fn $case() {
                        let case = $crate::conformance::$behaviour::$case;
                        $crate::conformance::run(stringify!($behaviour), $bed, case);
                    }
                )+
            }
        )+
    };
    (@names () $($behaviour:ident: { $($case:ident),+ $(,)? })+) => {
        &[$($crate::conformance::Behaviour {
            name: stringify!($behaviour),
            cases: &[$(stringify!($case)),+],
        }),+]
    };
    (@each $make:ident $with:tt) => {
        $crate::conformance! {
            @$make $with
            accept: {
                each_decision_is_carried_out,
                a_second_path_gets_answers_only_once_the_handler_says_so,
                forged_paths_are_bounded_and_cannot_keep_a_peer_from_moving,
                a_peer_of_one_path_takes_no_other,
                a_full_table_refuses_and_counts,
                a_peer_is_opened_from_the_listeners_own_port,
                the_amplification_limit_holds_until_the_address_is_validated,
                the_amplification_limit_is_spent_once,
                a_cookie_proves_the_address_it_was_sent_to_and_no_other,
            }
            capabilities: { are_those_of_the_table }
            copies: { replies_are_not_copied, what_many_get_is_copied_once }
            counters: { each_datagram_has_one_outcome, source_port_zero_is_dropped_and_counted }
            drain: {
                what_had_arrived_is_answered,
                what_had_arrived_is_answered_with_few_buffers,
                a_handler_may_see_its_peers_off,
                the_deadline_holds_when_peers_stay,
                no_shard_ends_while_mail_is_under_way,
                a_handler_that_never_rests_ends_at_the_deadline,
            }
            echo_sizes: { over_ipv4, over_ipv6, over_both_wildcards_on_one_port, at_every_edge }
            endpoints: {
                an_endpoint_speaks_and_hears_its_peer_only,
                an_endpoint_for_anyone_accepts,
                a_socket_that_cannot_be_opened_is_reported_to_its_peers,
                a_port_is_opened_anew_after_its_close_and_after_a_restart,
                a_turn_in_which_an_opening_failed_has_an_end,
                all_ports_are_free_when_the_server_has_ended,
            }
            idle_peers: { silence_closes_a_peer, a_panic_over_one_idle_peer_hides_no_other }
            kernel_drops: { all_is_received_or_counted }
            messages: { every_sender_is_heard_in_order, a_sleeping_shard_hears_a_handle_at_once }
            panic: {
                the_shard_goes_on_with_a_fresh_handler,
                too_many_panics_stop_the_server,
                a_factory_that_panics_starts_nothing,
                a_sleeping_neighbour_ends_too,
                what_a_fresh_handler_begins_at_once_holds,
            }
            ports: {
                every_flow_is_answered_by_the_shard_that_owns_it,
                two_servers_get_two_ports,
                a_held_port_is_refused,
                another_server_is_refused_and_the_first_goes_on,
                nothing_is_left_bound_when_a_later_address_fails,
                a_drained_servers_port_is_free_at_once,
            }
            refusals: { what_is_missing_is_refused }
            stale_ids: { nothing_reaches_the_new_owner_of_a_slot, an_id_of_another_shard_is_nobody_here }
            steering: { no_flow_has_to_be_forwarded, short_ones_are_steered_like_others }
            timers: {
                they_fire_in_order_and_never_early,
                a_sleeping_shard_wakes_for_its_timer,
                a_full_wheel_gives_the_timer_back,
            }
            trains_out: { their_lengths_and_order_are_kept, they_leave_as_one, they_can_be_turned_off }
            truncation: { on_a_specific_address, over_ipv6, on_a_wildcard }
            zero_length: { they_are_answered_in_their_order, nothing_but_empty_ones_is_served_too }
        }
    };
    ($bed:path) => {
        $crate::conformance! { @each tests ($bed) }
    };
}

/// All of them.
///
/// ```
/// let cases: usize = shardgram_core::conformance::SUITE.iter().map(|behaviour| behaviour.cases.len()).sum();
/// assert!(cases > 10);
/// ```
pub const SUITE: &[Behaviour] = crate::conformance! { @each names () };
