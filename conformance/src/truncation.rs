//! A datagram longer than the receive buffer is flagged with its true length, never passed off as whole.
use super::{Bed, loopback, pattern};
use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId};

/// Says what it got: how much, of how much, and the last byte.
struct Judge;

impl Handler for Judge {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let text = format!("{} of {:?}", datagram.len(), datagram.meta().truncated_from);
        assert!(datagram[..] == pattern(datagram.len())[..], "its beginning, unchanged");
        cx.io.send(from, text.as_bytes()).unwrap();
    }
}

fn check<B: Bed>(bed: &mut B, config: Config) {
    let server = bed.serve(config.max_datagram(1200), |_| Judge);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for (size, verdict) in [
        (0, "0 of None"),
        (1199, "1199 of None"),
        (1200, "1200 of None"),
        (1201, "1200 of Some(1201)"),
        (65_507, "1200 of Some(65507)"),
        (1, "1 of None"),
    ] {
        let answer = bed.ask(&peer, at, &pattern(size));
        assert_eq!(String::from_utf8(answer).unwrap(), verdict, "{size} bytes");
    }
    let stats = bed.drain(server);
    assert_eq!((stats.truncated, stats.restarts), (2, 0));
}

pub fn on_a_specific_address<B: Bed>(mut bed: B) {
    check(&mut bed, loopback());
}

pub fn over_ipv6<B: Bed>(mut bed: B) {
    check(&mut bed, Config::new().listen("[::1]:0".parse().unwrap()));
}

pub fn on_a_wildcard<B: Bed>(mut bed: B) {
    // With packet info in front of it, the payload must have the same room.
    let config = Config::new().listen("0.0.0.0:0".parse().unwrap());
    let server = bed.serve(config.max_datagram(1200), |_| Judge);
    let at = ([127, 0, 0, 1], bed.address(&server).port()).into();
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, &pattern(1200)), b"1200 of None");
    assert_eq!(bed.ask(&peer, at, &pattern(1201)), b"1200 of Some(1201)");
    bed.drain(server);
}
