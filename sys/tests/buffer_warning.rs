//! A buffer that the system cuts down is told, with the setting that caps it.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::{ListenerGroup, SocketOptions};

const ASKED: usize = 1 << 30;

#[test]
fn a_cut_buffer_names_its_sysctl() {
    let caps = [("receive", "net.core.rmem_max"), ("send", "net.core.wmem_max")];
    // Other network namespaces do not show these settings; they are the first one's.
    let Ok(cap) = std::fs::read_to_string("/proc/sys/net/core/rmem_max") else {
        support::skip::record("this namespace does not show net.core.rmem_max");
        return;
    };
    if cap.trim().parse::<usize>().expect("a number") >= ASKED {
        support::skip::record("net.core.rmem_max allows anything");
        return;
    }
    support::without_privileges(move || {
        let options = SocketOptions { receive_buffer: ASKED, send_buffer: ASKED, ..SocketOptions::default() };
        let group = ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 3, &options).expect("group");
        assert_eq!(group.warnings().len(), 2, "one for each buffer, whatever the number of shards");
        for (warning, (socket, sysctl)) in group.warnings().iter().zip(caps) {
            let cap = support::sysctl(&sysctl.replace('.', "/")) as usize;
            assert_eq!((warning.socket, warning.sysctl), (socket, sysctl));
            assert_eq!((warning.asked, warning.granted), (ASKED, cap));
            let text = warning.to_string();
            assert!(text.contains(&format!("sysctl -w {sysctl}={ASKED}")), "{text}");
            assert!(text.contains(&format!("got {cap}")), "{text}");
        }
    });
}

#[test]
fn a_granted_buffer_is_no_warning() {
    for receive_buffer in [0, 64 * 1024] {
        let options =
            SocketOptions { receive_buffer, send_buffer: receive_buffer, ..SocketOptions::default() };
        let mut group =
            ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 2, &options).expect("group");
        assert!(group.warnings().is_empty(), "{:?}", group.warnings());
        if receive_buffer != 0 {
            for socket in group.take_sockets() {
                let doubled =
                    support::int_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF).expect("option");
                assert_eq!(doubled as usize, 2 * receive_buffer);
            }
        }
    }
}
