//! What a handler panics over is refused and named in the log, and nobody else notices.

use std::net::UdpSocket;
use std::sync::{Mutex, Once};

use shardgram::{Accept, Context, Datagram, Handler, Origin, PeerId, ServeError};

use crate::common::{Bed, Served, log, loopback};

/// Panics with what starts with "bad", in `accept` with what starts with "bad stranger"; echoes the rest.
struct Fragile;

impl Handler for Fragile {
    type Peer = ();
    type Timer = ();
    type Message = String;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        assert!(!first.starts_with(b"bad stranger"), "{}", String::from_utf8_lossy(first));
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert!(!datagram.starts_with(b"bad"), "{}", String::from_utf8_lossy(&datagram));
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room");
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, message: String) {
        panic!("{message}");
    }
}

/// The messages that were logged in this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static KEPT: Once = Once::new();

fn keep_log() {
    KEPT.call_once(|| log::listen(|_| true, |line| LINES.lock().unwrap().push(line.message)));
}

fn logged(line: &str) -> usize {
    LINES.lock().unwrap().iter().filter(|l| *l == line).count()
}

fn the_log_names_shard_callback_and_source(mut bed: Bed) {
    keep_log();
    let server = bed.serve(loopback().max_restarts_per_minute(3), |_| Fragile);
    let (at, clients) = (bed.address(&server), [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap()));
    let sources = clients.each_ref().map(|client| client.local_addr().unwrap());
    let texts = sources.map(|source| format!("bad datagram of {source}"));
    // A second one over which the same callback panics is held back.
    for (panics, (client, text)) in (1..).zip(clients.iter().zip(&texts)).take(2) {
        client.send_to(text.as_bytes(), at).unwrap();
        bed.until("it panics", |bed| bed.stats(&server).restarts == panics);
    }
    let message = format!("a message of {}", sources[0]);
    bed.tell(&server, 0, message.clone());
    bed.until("it panics", |bed| bed.stats(&server).restarts == 3);
    let stranger = format!("bad stranger\n {}", sources[2]);
    clients[2].send_to(stranger.as_bytes(), at).unwrap();
    let Served::Real(handle) = server else { panic!("there is a log of real servers only") };
    let error = handle.wait().map(|_| ()).unwrap_err();
    assert!(
        matches!(error, ServeError::TooManyRestarts { shard: 0, callback: "accept", panics: 4 }),
        "{error}"
    );
    assert!(error.to_string().contains("shard 0") && error.to_string().contains("accept"), "{error}");
    let [first, second, third] = sources;
    let (held_back, stranger) = (&texts[1], stranger.replace('\n', "\\n"));
    for (line, times) in [
        (
            format!(
                "shard 0: the handler panicked in on_datagram, source {first}: {}; that source is refused for 1s",
                texts[0]
            ),
            1,
        ),
        (
            format!(
                "shard 0: the handler panicked in on_datagram, source {second}: {held_back}; that source is refused \
                 for 1s"
            ),
            0,
        ),
        (format!("shard 0: the handler panicked in on_message: {message}; the shard pauses for 10ms"), 1),
        (
            format!(
                "shard 0: the handler panicked in accept, source {third}: {stranger}; that source is refused for 1s"
            ),
            1,
        ),
    ] {
        assert_eq!(logged(&line), times, "{line} in {:?}", LINES.lock().unwrap());
    }
    let last =
        "shard 0 ends: 4 panics within a minute, the last in accept, and 3 may be (max_restarts_per_minute)";
    assert!(logged(last) > 0);
}

on_real_drivers!(the_log_names_shard_callback_and_source);

/// Other systems have one address of the loopback interface alone.
#[cfg(target_os = "linux")]
mod linux {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::Fragile;
    use crate::common::{Bed, PATIENCE, loopback};

    fn client(at: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(at).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// From one address with one port, and with a new port each time.
    fn bad_datagrams_from_one_address_leave_all_others_served(mut bed: Bed) {
        for changes_ports in [false, true] {
            let server = bed.serve(loopback().shards(2), |_| Fragile);
            let at = bed.address(&server);
            let clients: Vec<_> = (0..20).map(|_| client(at)).collect();
            let mut attacker = UdpSocket::bind("127.0.0.9:0").unwrap();
            for round in 0..100_u8 {
                if changes_ports {
                    attacker = UdpSocket::bind("127.0.0.9:0").unwrap();
                }
                attacker.send_to(b"bad datagram", at).unwrap();
                for client in &clients {
                    client.send(&[round]).unwrap();
                }
                for client in &clients {
                    let mut answer = [0; 2];
                    assert_eq!(client.recv(&mut answer).expect("an answer"), 1);
                    assert_eq!(answer[0], round, "each has its answer, and in order");
                }
                if round % 25 == 0 {
                    // Some refusals come to their end.
                    bed.pass(Duration::from_millis(300));
                }
            }
            let stats = bed.drain(server);
            assert_eq!((stats.received, stats.kernel_dropped), (2_100, 0), "{stats:?}");
            let (restarts, refused) = (stats.restarts, stats.dropped_refused_source);
            assert_eq!((restarts + refused, stats.sent()), (100, 2_000), "{stats:?}");
            assert!(restarts >= 1 && refused >= 50, "{stats:?}");
        }
    }

    on_real_drivers!(bad_datagrams_from_one_address_leave_all_others_served);
}
