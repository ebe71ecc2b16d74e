//! Where it is asked for, each datagram says when the kernel received it, however late the handler sees it.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use shardgram::{Accept, Config, Context, Datagram, Handler, Meta, PeerId, TierPolicy};

use crate::common::lab::wait_in_callback;
use crate::common::marks::Marker;
use crate::common::{Bed, PATIENCE, Served};

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

struct Room {
    bed: Bed,
    server: Served<()>,
    told: Receiver<Meta>,
    begun: Receiver<()>,
    go_on: Sender<()>,
}

impl Room {
    fn new(mut bed: Bed, config: Config) -> Self {
        let ((told, news), (begin, begun), (go_on, until)) = (channel(), channel(), channel());
        let clock = std::sync::Mutex::new(Some(Clock { told, begin, until }));
        let clock = std::sync::Arc::new(clock);
        let server = bed.serve(config, move |_| clock.lock().unwrap().take().expect("one shard"));
        Self { bed, server, told: news, begun, go_on }
    }

    fn next(&self) -> Option<Duration> {
        self.told.recv_timeout(PATIENCE).expect("a datagram comes").kernel_time
    }
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970")
}

/// A clock that is set meanwhile may go back a little.
const SLACK: Duration = Duration::from_millis(5);

/// Singles and trains have a time between that before they were sent and the one after they came.
fn expect_times(room: &Room, client: &Marker, to: SocketAddr, on: bool) {
    for (segment, bytes, count) in [(None, &b"alone"[..], 1), (Some(2), b"aabbc", 3)] {
        let before = now();
        client.send(to, 0, segment, bytes);
        for _ in 0..count {
            let time = room.next();
            assert_eq!(time.is_some(), on, "{to}");
            let time = time.unwrap_or(before);
            assert!(time + SLACK >= before && time <= now() + SLACK, "{time:?} not after {before:?}");
        }
    }
}

fn places() -> [(SocketAddr, IpAddr); 4] {
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")]
        .map(|(at, to)| (SocketAddr::new(at.parse().unwrap(), 0), to.parse().unwrap()))
}

fn as_asked_for(bed: Bed) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    for (ecn, on) in [(false, false), (false, true), (true, true)] {
        let config = Config::new().receive_timestamps(on).ecn(ecn);
        let config = places().iter().fold(config, |config, (at, _)| config.listen(*at));
        let room = Room::new(Bed::Real(backend), config);
        for (at, (_, ip)) in room.bed.addresses(&room.server).into_iter().zip(places()) {
            expect_times(&room, &Marker::new(ip), SocketAddr::new(ip, at.port()), on);
        }
        let Room { mut bed, server, .. } = room;
        bed.drain(server);
    }
}

fn a_late_handler_sees_the_time_of_the_arrival(bed: Bed) {
    let room = Room::new(bed, Config::new().listen(places()[0].0).receive_timestamps(true));
    let (client, to) = (Marker::new(places()[0].1), room.bed.address(&room.server));
    client.send(to, 0, None, b"first");
    room.next();
    client.send(to, 0, None, b"wait");
    room.begun.recv_timeout(PATIENCE).expect("it waits");
    client.send(to, 0, None, b"late");
    let sent = now();
    // So long the datagram lies in the kernel, which has it by now.
    std::thread::sleep(Duration::from_millis(300));
    room.go_on.send(()).unwrap();
    room.next();
    let time = room.next().expect("a time");
    assert!(time < sent + Duration::from_millis(150), "{time:?} and not about {sent:?}");
    let Room { mut bed, server, .. } = room;
    bed.drain(server);
}

on_real_drivers!(as_asked_for, a_late_handler_sees_the_time_of_the_arrival);

#[test]
fn at_a_socket_of_the_peers_own() {
    for (listen, ip) in &places()[..2] {
        for on in [false, true] {
            let Some(bed) = Bed::uring() else { return };
            let config = Config::new().receive_timestamps(on).tier(TierPolicy::Connected).listen(*listen);
            let mut room = Room::new(bed, config);
            let (client, to) = (Marker::new(*ip), room.bed.address(&room.server));
            client.send(to, 0, None, b"hello");
            room.next();
            let Room { bed, server, .. } = &mut room;
            bed.until("it is connected", |bed| bed.stats(server).promoted == 1);
            expect_times(&room, &client, to, on);
        }
    }
}
