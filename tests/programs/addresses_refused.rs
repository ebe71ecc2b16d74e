//! Where this host's addresses cannot be listed (getifaddrs(3) needs netlink, which a sandbox may refuse), the mio driver
//! cannot tell broadcasts, and a server that may get some says so when it is bound.

use shardgram::{Backend, Config, Server};

use crate::common::seccomp;

#[test]
fn a_wildcard_warns() {
    let bind = || {
        // Asking netlink is the only send there is here.
        seccomp::refuse(libc::SYS_sendto, libc::EPERM).expect("a filter");
        let warnings = |ip: [u8; 4]| {
            let config = Config::new().listen((ip, 0).into()).backend(Backend::Mio).shards(2);
            Server::bind(config).expect("it binds all the same").warnings().to_vec()
        };
        assert_eq!(warnings([127, 0, 0, 1]), [""; 0], "no broadcast reaches it");
        let [warning] = &warnings([0, 0, 0, 0])[..] else { panic!("one warning") };
        assert!(warning.contains("broadcast") && warning.ends_with("listen on each address"), "{warning}");
    };
    std::thread::spawn(bind).join().expect("the thread with the filter");
}
