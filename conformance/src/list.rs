//! Each behaviour once, with its cases.

/// A behaviour of the suite.
///
/// ```
/// use shardgram_conformance::SUITE;
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
/// [`conformance`](crate).
#[macro_export]
macro_rules! conformance {
    (@tests ($bed:path) $($behaviour:ident: { $($case:ident),+ $(,)? })+) => {
        $(
            mod $behaviour {
                $(
                    #[test]
                    fn $case() {
                        let case = $crate::$behaviour::$case;
                        $crate::run(stringify!($behaviour), $bed, case);
                    }
                )+
            }
        )+
    };
    (@names () $($behaviour:ident: { $($case:ident),+ $(,)? })+) => {
        &[$($crate::Behaviour {
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
                a_peer_is_opened_from_the_listeners_own_port,
                the_amplification_limit_holds_until_the_address_is_validated,
                the_amplification_limit_is_spent_once,
                a_cookie_proves_the_address_it_was_sent_to_and_no_other,
            }
            capabilities: { are_those_of_the_table }
            connected: {
                promoted_and_demoted_again_and_again,
                accepted_with_one,
                by_the_policy_as_soon_as_they_are_made,
                the_last_word_counts,
                nothing_is_lost_on_the_way,
            }
            copies: { replies_are_not_copied, what_many_get_is_copied_once }
            counters: { each_datagram_has_one_outcome, source_port_zero_is_dropped_and_counted }
            crowded_table: {
                a_newcomer_takes_the_place_of_an_unproven_peer,
                the_proven_keep_their_places,
                more_proven_than_are_kept_give_way_among_themselves,
                who_is_answered_for_seconds_keeps_its_place,
                accept_is_told_of_the_pressure,
                a_prefix_with_many_newcomers_is_asked_for_a_proof,
                a_prefix_has_as_many_proven_peers_as_it_may,
                peers_that_this_side_opened_never_give_way,
                the_amplification_limit_holds_for_each_path,
            }
            drain: {
                what_had_arrived_is_answered,
                what_had_arrived_is_answered_with_few_buffers,
                a_handler_may_see_its_peers_off,
                the_deadline_holds_when_peers_stay,
                no_shard_ends_while_mail_is_under_way,
                a_handler_that_never_rests_ends_at_the_deadline,
            }
            echo_sizes: { over_ipv4, over_ipv6, over_both_wildcards_on_one_port, at_every_edge }
            ecn_in: { at_a_listener, at_an_endpoint, only_where_it_is_asked_for }
            ecn_in_trains: { each_says_so, without_trains_too }
            ecn_out: {
                each_datagram_has_its_mark,
                stateless_answers_have_none,
                a_mark_lasts_as_long_as_its_peer,
                by_an_endpoint,
            }
            endpoints: {
                an_endpoint_speaks_and_hears_its_peer_only,
                an_endpoint_for_anyone_accepts,
                a_socket_that_cannot_be_opened_is_reported_to_its_peers,
                a_port_is_opened_anew_after_its_close_and_after_a_restart,
                a_turn_in_which_an_opening_failed_has_an_end,
                all_ports_are_free_when_the_server_has_ended,
            }
            exhausted_buffers: { a_burst_is_served }
            fairness: { a_flood_on_one_listener_leaves_the_others_theirs }
            fan_out: {
                everyone_hears_everyone,
                everyone_hears_members_of_other_shards_or_their_shard_is_told_that_it_did_not,
                a_train_waits_for_room,
                what_asks_for_more_than_there_is_is_told_which_bound_it_met,
            }
            idle_peers: {
                silence_closes_a_peer,
                a_panic_over_one_idle_peer_hides_no_other,
                silent_peers_and_an_emptied_table_take_no_turns,
            }
            kernel_drops: { all_is_received_or_counted }
            messages: {
                every_sender_is_heard_in_order,
                a_handle_is_heard_in_order,
                a_sleeping_shard_hears_a_handle_at_once,
            }
            panic: {
                the_shard_goes_on_with_a_fresh_handler,
                peers_are_kept_where_the_handler_says_so,
                the_handler_is_kept_where_it_says_so,
                a_source_is_refused_for_a_growing_time,
                several_sources_have_their_address_refused_and_then_their_prefix,
                panics_about_no_peer_have_the_shard_pause,
                a_pause_is_no_obstacle_to_a_stop_or_a_drain,
                no_number_of_panics_ends_a_server,
                more_panics_than_may_be_stop_the_server,
                a_factory_that_panics_starts_nothing,
                a_factory_that_panics_is_asked_again,
                a_sleeping_neighbour_ends_too,
                what_a_fresh_handler_begins_at_once_holds,
            }
            paths: {
                one_of_a_closed_endpoint_leads_nowhere,
                one_of_another_shards_endpoint_leads_nowhere,
                it_has_the_port_of_its_endpoint,
                one_that_a_peer_gave_up_is_a_strangers,
                what_is_at_hand_is_answered_where_it_came_from,
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
            short_queues: { many_endpoints_and_wake_ups }
            source_address: { of_a_wildcard, of_one_peer_that_asks_at_each, of_a_specific_listener }
            spinning: {
                every_size_comes_back,
                bursts_come_in_order,
                peers_with_sockets_of_their_own,
                what_leaves_in_different_ways_leaves_in_order,
                handlers_that_fail_are_replaced,
            }
            spinning_trains: { trains_and_long_datagrams }
            stale_ids: { nothing_reaches_the_new_owner_of_a_slot, an_id_of_another_shard_is_nobody_here }
            steering: { no_flow_has_to_be_forwarded, short_ones_are_steered_like_others }
            timers: {
                they_fire_in_order_and_never_early,
                a_sleeping_shard_wakes_for_its_timer,
                a_full_wheel_gives_the_timer_back,
            }
            timestamps: { as_asked_for, in_each_tier }
            trains_in: {
                they_come_one_by_one,
                they_come_whole_to_who_wants_that,
                a_stranger_may_begin_with_one,
                long_ones_are_cut_one_by_one,
                long_ones_outlast_a_budget_of_one,
                they_say_where_they_were_sent_to,
                they_can_be_turned_off,
            }
            trains_out: { their_lengths_and_order_are_kept, they_leave_as_one, they_can_be_turned_off }
            truncation: { on_a_specific_address, over_ipv6, on_a_wildcard }
            waiting: { each_policy_serves }
            waking: {
                a_bell_ends_a_rest,
                shards_wake_each_other,
                an_idle_shard_takes_no_turns,
                deadlines_are_kept_without_spinning,
                a_datagram_ends_a_rest,
            }
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
/// let cases: usize = shardgram_conformance::SUITE.iter().map(|behaviour| behaviour.cases.len()).sum();
/// assert!(cases > 10);
/// ```
pub const SUITE: &[Behaviour] = crate::conformance! { @each names () };
