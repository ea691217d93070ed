//! Compiles the gRPC contracts with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 7] =
        ["common.proto", "node.proto", "watcher.proto", "relay.proto", "peer.proto", "join.proto", "certificate.proto"];
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
