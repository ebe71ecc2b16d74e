//! The dial example as a user meets it: an answer by name, and an end where there is none.

use std::process::{Command, Output};

use crate::common::program::{Echo, example};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(example("dial")).args(arguments).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn it_says_who_answers() {
    let echo = Echo::start(&["--listen", "127.0.0.1:0"]);
    let at = echo.addresses()[0];
    for host in [at.to_string(), format!("localhost:{}", at.port())] {
        let (code, said, errors) = run(&[&host, "--try-for-ms", "5000"]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(said.contains(&format!("trying {at}\n")), "{said}");
        assert!(said.ends_with(&format!("{at} answers: hello\n")), "{said}");
    }
}

#[test]
fn it_says_why_nobody_does() {
    for (arguments, why) in [
        (
            &["127.0.0.9:9", "--try-for-ms", "10"][..],
            "none of 1 addresses answered; the last: nothing came from it in time",
        ),
        (
            &["127.0.0.1:9", "--interface", "no-such-one"],
            "the endpoint could not be opened (system error 19)",
        ),
        (&["no port"], "write host:port"),
        (&["localhost:0"], "port 0"),
    ] {
        let (code, _, errors) = run(arguments);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.starts_with("dial: ") && errors.contains(why), "{errors}");
    }
}
