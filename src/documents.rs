//! README and guide, so that `cargo test` compiles and runs their code. `tests/documents.rs` says which page is missing.

macro_rules! documents {
    ($($name:ident: $file:literal,)*) => {
        $(#[doc = include_str!($file)] mod $name {})*
    };
}

documents! {
    readme: "../README.md",
    first_server: "../docs/guide/first-server.md",
    peers: "../docs/guide/peers.md",
    sending: "../docs/guide/sending.md",
    floods: "../docs/guide/floods.md",
    client: "../docs/guide/client.md",
    groups: "../docs/guide/groups.md",
    service: "../docs/guide/service.md",
    testing: "../docs/guide/testing.md",
    configuration: "../docs/guide/configuration.md",
    operating: "../docs/guide/operating.md",
    counters: "../docs/guide/counters.md",
}
