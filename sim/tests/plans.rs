//! What is planned happens at its time, in order, and runs end where they are told to.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shardgram_sim::{LinkConfig, Sim, seeds};
use support::{SECOND, addr, ip, listening, payloads};

#[test]
fn in_order_of_time_and_of_asking() {
    let mut sim = Sim::new(1);
    let done = Rc::new(RefCell::new(Vec::new()));
    let note = |what: &'static str| {
        let done = Rc::clone(&done);
        move |sim: &mut Sim| done.borrow_mut().push((what, sim.elapsed().as_millis()))
    };
    let ms = Duration::from_millis;
    sim.at(ms(20), note("c"));
    sim.at(ms(10), note("a"));
    sim.at(ms(10), note("b"));
    let then = note("after that");
    sim.at(ms(10), move |sim| sim.after(ms(15), then));
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(done.take(), [("a", 10), ("b", 10), ("c", 20), ("after that", 25)]);
    sim.at(ms(5), note("late"));
    sim.at(ms(50), note("not yet"));
    sim.run_for(ms(24));
    assert_eq!(done.take(), [("late", 25)]);
    sim.run_for(ms(1));
    assert_eq!(done.take(), [("not yet", 50)]);
}

#[test]
fn faults_come_and_go_while_a_server_runs() {
    let mut sim = Sim::new(2);
    let server = support::echo(&mut sim, &listening("10.0.0.1:7").shards(2));
    let client = sim.socket(addr("10.0.0.2:5000"));
    let (a, b) = ([ip("10.0.0.1")], [ip("10.0.0.2")]);
    sim.at(10 * SECOND, move |sim| {
        let split = sim.partition(&a, &b);
        sim.after(20 * SECOND, move |sim| assert!(sim.heal(split)));
    });
    sim.at(40 * SECOND, |sim| sim.link(LinkConfig::new().loss(1.0).expect("in range")));
    let mut answered = Vec::new();
    for second in 0..50_u8 {
        sim.send(client, addr("10.0.0.1:7"), &[second]);
        sim.run_for(SECOND);
        answered.extend(payloads(&mut sim, client).concat());
    }
    assert_eq!(answered, (0..10).chain(30..40).collect::<Vec<_>>());
    assert_eq!(sim.stats(&server).received, 20);
}

#[test]
fn until_something_is_so() {
    let mut sim = Sim::new(3);
    let server = support::echo(&mut sim, &listening("10.0.0.1:7"));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for n in 0..10 {
        sim.after(n * SECOND, move |sim| sim.send(client, addr("10.0.0.1:7"), b"x"));
    }
    assert!(sim.run_until(60 * SECOND, |sim| sim.stats(&server).received == 4));
    assert_eq!(sim.elapsed().as_secs(), 3);
    assert!(sim.run_until(Duration::ZERO, |_| true));
    assert!(!sim.run_until(SECOND / 2, |sim| sim.stats(&server).received == 11));
    assert_eq!(sim.elapsed().as_millis() / 10, 350, "the limit has passed, and not much more");
    assert!(!sim.run_until(60 * SECOND, |sim| sim.stats(&server).received == 11), "there is nothing to come");
    assert_eq!(sim.stats(&server).received, 10);
}

#[test]
fn seeds_are_tried_from_nought() {
    // Whoever runs one seed again runs it here too.
    if std::env::var_os("SHARDGRAM_SEED").is_none() {
        assert_eq!(seeds(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(seeds(0).count(), 0);
    }
}
