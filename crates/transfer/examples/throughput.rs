//! How fast a generated tree goes over a secure session on this machine, there and back.
//!
//! `cargo run --release -p outlast-transfer --example throughput -- DIRECTORY [MEGABYTES] [--no-sync]`

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::path::PathBuf;
use std::time::Instant;

use outlast::{
    Address, Auth, ConnectOptions, EntityName, EntityType, Keyring, KeyringEntry, Messenger, generate_key,
};
use outlast_transfer::{
    CopyRequest, Folder, GenerateOptions, Progress, ServeOptions, Sync, compare, copy, generate, serve,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let top = PathBuf::from(args.next().ok_or("where?")?);
    let (mut megabytes, mut sync) = (1024, Sync::Durable);
    for arg in args {
        if arg == "--no-sync" {
            sync = Sync::None;
        } else {
            megabytes = arg.parse()?;
        }
    }
    let started = Instant::now();
    let made = generate(&top.join("source"), &GenerateOptions { bytes: megabytes << 20, seed: 1 })?;
    println!("{made:?} in {:?}", started.elapsed());

    let name = EntityName::new(EntityType::Client, "copy");
    let mut keyring = Keyring::new();
    keyring.insert(name.clone(), KeyringEntry::new(generate_key()?));
    let server = Messenger::builder(EntityName::new(EntityType::Client, "server"))
        .auth(Auth::keyring(keyring.clone()))
        .build()?;
    let client = Messenger::builder(name).auth(Auth::keyring(keyring)).build()?;
    let loopback: Address = "127.0.0.1:0".parse()?;
    let address = server.listen(loopback).await?;
    let session = client.connect(&[address], ConnectOptions::lossless()).await?;
    std::fs::create_dir_all(top.join("served"))?;
    let folder = Folder::open(&top.join("served"))?;
    let served = tokio::spawn(async move {
        let session = server.accept().await;
        match session {
            Some(session) => serve(&session, &folder, &ServeOptions::default()).await.map(drop),
            None => Ok(()),
        }
    });

    let mut up = CopyRequest::upload([top.join("source")], "up");
    let mut down = CopyRequest::download(["up".into()], top.join("down"));
    for (what, request) in [("up", &mut up), ("down", &mut down)] {
        request.options.sync = sync;
        let started = Instant::now();
        let summary = copy(&session, request, &Progress::new()).await?;
        let elapsed = started.elapsed();
        assert!(summary.is_complete(), "{:?}", summary.failures);
        let rate = summary.bytes_copied as f64 / elapsed.as_secs_f64() / 1e6;
        println!("{what}: {} files in {elapsed:?}, {rate:.0} MB/s", summary.files_copied);
    }
    let started = Instant::now();
    let same = compare(&top.join("source"), &top.join("down"), None)?;
    println!("same: {} in {:?}", same.is_same(), started.elapsed());
    session.close().await;
    served.await??;
    Ok(())
}
