//! Flows from many local addresses.

use super::*;

#[test]
#[cfg(target_os = "linux")]
fn flows_are_bound_to_the_addresses_in_turn() {
    use std::collections::BTreeMap;
    use std::net::IpAddr;
    let (server, target) = socket(Duration::from_millis(50));
    let mut bytes = [0; 64];
    let echo = Until::stopped(BTreeMap::<IpAddr, Vec<u16>>::new(), move |ports| {
        let Ok((len, from)) = server.recv_from(&mut bytes) else { return };
        let of_address = ports.entry(from.ip()).or_default();
        if !of_address.contains(&from.port()) {
            of_address.push(from.port());
        }
        server.send_to(&bytes[..len], from).expect("loopback takes it");
    });
    let (code, json, err) = run_json(&format!(
        "{target} --flows 9 --shards 2 --rate 500 --duration 200ms --warmup 0s --source 127.0.1.9,127.0.2.0/30"
    ));
    assert_eq!((code, count(&json, "lost"), count(&json, "source_addresses")), (0, 0, 3), "{err}");
    let ports: Vec<_> = echo.stop().into_iter().map(|(ip, p)| (ip.to_string(), p.len())).collect();
    let expected = ["127.0.1.9", "127.0.2.1", "127.0.2.2"].map(|address| (address.to_owned(), 3));
    assert_eq!(ports, expected);
}

#[test]
fn an_address_of_another_host_is_named() {
    let output = run("--source 192.0.2.77 --duration 100ms");
    let err = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{err}");
    assert!(err.contains("--source 192.0.2.77 is no address of this host; add it"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}
