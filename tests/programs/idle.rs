//! A server that has nothing to do uses no CPU at all: its threads do not run.

use std::net::UdpSocket;
use std::time::Duration;

use crate::common::program::Echo;

/// Nanoseconds all threads of a process have run, and how often they were given a core (proc(5)).
fn schedule(id: u32) -> Vec<(u64, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let read = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
        let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.nth(1).unwrap())
    };
    tasks.map(|task| read(task.unwrap())).collect()
}

#[test]
fn an_idle_server_does_not_run() {
    for backend in ["auto", "mio"] {
        let echo = Echo::start(&["--listen", "127.0.0.1:0", "--shards", "2", "--backend", backend]);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"hello", echo.addresses()[0]).unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("an answer"), 5);
        // The threads have some turns left to go to sleep in.
        let mut before = schedule(echo.id());
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(20));
            let now = schedule(echo.id());
            if std::mem::replace(&mut before, now.clone()) == now {
                break;
            }
        }
        // The time it is given to run in, of which it must make no use.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(schedule(echo.id()), before, "{}: it ran while there was nothing to do", echo.ready);
        echo.signal("TERM");
        assert_eq!(echo.finish().0.code(), Some(0));
    }
}
