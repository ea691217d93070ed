//! The contract as Rust, a module for each version: generated from `wit/`, and the only place that is.

/// `vouch:probe@0.1.0`: three functions without an interface.
pub(crate) mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../wit/vouch-probe-0.1.0",
        world: "probe",
        imports: {
            "vouch:probe/icmp.echo": async,
            "vouch:probe/guest-agent.ping": async,
        },
        exports: { default: async },
    });
}

/// `vouch:probe@1`.
pub(crate) mod v1 {
    wasmtime::component::bindgen!({
        path: "../wit/vouch-probe-1",
        world: "probe",
        imports: {
            "vouch:probe/icmp.echo": async,
            "vouch:probe/tcp.handshake": async,
            "vouch:probe/guest-agent.ping": async,
            "vouch:probe/guest-agent.query": async,
            "vouch:probe/tls.[static]connection.connect": async | trappable,
            "vouch:probe/tls.[method]connection.exchange": async | trappable,
            "vouch:probe/tls.[method]connection.handshake": async | trappable,
            "vouch:probe/tls.[method]connection.certificate": trappable,
            "vouch:probe/tls.[method]connection.certificate-der": trappable,
        },
        exports: { default: async },
        with: { "vouch:probe/tls.connection": crate::tls::Connection },
    });
}
