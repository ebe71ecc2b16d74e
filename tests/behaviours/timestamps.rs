//! A datagram says when the kernel received it, however late the handler sees it.
#![cfg(target_os = "linux")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use shardgram::{Accept, Context, Datagram, Handler, Meta, PeerId};

use crate::common::lab::wait_in_callback;
use crate::common::{Bed, PATIENCE, loopback};

/// Tells of each datagram; `wait` holds it until the test lets it go on.
struct Clock {
    told: Sender<Meta>,
    begin: Sender<()>,
    until: Receiver<()>,
}

impl Handler for Clock {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if *datagram == *b"wait" {
            wait_in_callback(&self.begin, &self.until);
        }
        let _ = self.told.send(datagram.meta());
    }
}

fn a_late_handler_sees_the_time_of_the_arrival(mut bed: Bed) {
    let ((told, news), (begin, begun), (go_on, until)) = (channel(), channel(), channel());
    let clock = std::sync::Mutex::new(Some(Clock { told, begin, until }));
    let clock = std::sync::Arc::new(clock);
    let config = loopback().receive_timestamps(true);
    let server = bed.serve(config, move |_| clock.lock().unwrap().take().expect("one shard"));
    let next = || news.recv_timeout(PATIENCE).expect("a datagram comes").kernel_time;
    let at = bed.address(&server);
    let client = bed.peer(at);
    bed.send(&client, at, b"first");
    next();
    // How much later than it was sent a datagram came, by its time, that lay in the kernel so long.
    let late_by = |bed: &mut Bed, lies: Duration| {
        bed.send(&client, at, b"wait");
        begun.recv_timeout(PATIENCE).expect("it waits");
        bed.send(&client, at, b"late");
        let sent = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        std::thread::sleep(lies);
        go_on.send(()).unwrap();
        next();
        next().expect("a time").saturating_sub(sent)
    };
    // The kernel turns times on with a work item, some moments after the first socket asked (net_enable_timestamp in
    // net/core/dev.c); until then a datagram has the time at which it was read.
    let short = Duration::from_millis(20);
    let begin = Instant::now();
    while late_by(&mut bed, short) >= short / 2 {
        assert!(begin.elapsed() < PATIENCE, "the kernel takes no times");
    }
    let late = late_by(&mut bed, Duration::from_millis(300));
    assert!(late < Duration::from_millis(150), "{late:?} after it was sent");
    bed.drain(server);
}

on_real_drivers!(a_late_handler_sees_the_time_of_the_arrival);
