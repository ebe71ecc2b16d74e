//! Names are looked up and addresses listed wherever the process may run, and not on the core that the shard which asks is
//! pinned to.

use std::collections::BTreeSet;

use crate::common::caller::Call;
use crate::common::{Bed, skip};
use shardgram::{Config, Dial};

/// A field of a thread's status (proc(5)).
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("every kernel has it");
    line.trim_start_matches(':').trim().to_owned()
}

/// Where each thread of this process with this name may run.
fn cores_of_threads(name: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One that has ended meanwhile has none.
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let of_that_name = statuses.filter(|status| field(status, "Name") == name);
    of_that_name.map(|status| field(&status, "Cpus_allowed_list")).collect()
}

/// Where this process may run, and one core of those; `None` if that is all.
fn all_and_one() -> Option<(String, String)> {
    let all = field(&std::fs::read_to_string("/proc/thread-self/status").unwrap(), "Cpus_allowed_list");
    let core = all.split(['-', ',']).next().unwrap().to_owned();
    if core == all {
        skip::record("a core to which the process is not bound anyway");
        return None;
    }
    Some((all, core))
}

fn names_are_looked_up_wherever_the_process_may_run(bed: Bed) {
    let Some((all, core)) = all_and_one() else { return };
    let config = Config::new().cores([core.parse().unwrap()]);
    let mut call = Call::start_with_the_systems_names(bed, config);
    assert_eq!(cores_of_threads("shardgram-0"), [core], "the shard is pinned");
    for port in 1..=8 {
        call.dial(Dial::to("localhost", port).unwrap());
    }
    call.bed.until("names are looked up", |_| call.seen.try_recv().is_ok());
    let cores = cores_of_threads("shardgram-names");
    assert!((2..=4).contains(&cores.len()), "{cores:?}");
    assert_eq!(cores.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([all]));
    call.drain();
}

fn addresses_are_listed_wherever_the_process_may_run(bed: Bed) {
    let Some((all, core)) = all_and_one() else { return };
    let mut call = Call::start_with_the_systems_names(bed, Config::new().cores([core.parse().unwrap()]));
    assert_eq!(cores_of_threads("shardgram-0"), [core], "the shard is pinned");
    // A thread takes its name when it first runs.
    call.bed.until("the thread runs", |_| !cores_of_threads("shardgram-list").is_empty());
    assert_eq!(cores_of_threads("shardgram-list"), [all]);
    call.drain();
}

/// They inherit no core then, so the first can be started when it is needed.
fn a_server_that_floats_has_no_threads_for_names_until_it_dials(bed: Bed) {
    let call = Call::start_with_the_systems_names(bed, Config::new());
    assert!(cores_of_threads("shardgram-names").is_empty());
    call.drain();
}

in_namespaces!(
    names_are_looked_up_wherever_the_process_may_run,
    addresses_are_listed_wherever_the_process_may_run,
    a_server_that_floats_has_no_threads_for_names_until_it_dials
);
