//! A port that anyone else holds is refused, whatever options the holder set, and the error names the remedy.
use std::net::SocketAddr;

use crate::common::Bed;
use shardgram::{Backend, BindError, Config, Server, StartError};

fn backend(bed: &Bed) -> Backend {
    match bed {
        Bed::Real(backend) => *backend,
        Bed::Sim(_) => unreachable!("real drivers only"),
    }
}

fn bind(bed: &Bed, at: SocketAddr) -> Result<Server, StartError> {
    Server::bind(Config::new().listen(at).shards(2).backend(backend(bed)))
}

fn refused(bed: &Bed, at: SocketAddr) {
    match bind(bed, at) {
        Err(StartError::Bind(error @ BindError::AddressInUse { address, .. })) => {
            assert_eq!(address, at);
            let text = error.to_string();
            assert!(text.contains("in use") && text.contains("ss -ulnp") && !text.contains('\n'), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

fn a_holder_that_would_share_is_refused_too(bed: Bed) {
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    #[cfg(unix)]
    holder.set_reuse_port(true).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    refused(&bed, holder.local_addr().unwrap().as_socket().unwrap());
}

on_real_drivers!(a_holder_that_would_share_is_refused_too);
