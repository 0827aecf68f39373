//! Raw TCP: a length before each message, blocking sockets, one system call for many small messages.

use super::prefixed::{Inbound, Outbound};
use super::{Ready, accept, connect};
use crate::case::Task;
use crate::work::{Driver, Outcome, Sink, Step};
use anyhow::Result;
use std::io::{Read, Write};
use std::net::SocketAddr;

pub(super) fn serve(task: &Task, ready: Ready, mut sink: Sink) -> Result<()> {
    let mut stream = accept(task, ready)?;
    let mut inbound = Inbound::new();
    let mut outbound = Outbound::default();
    loop {
        let len = stream.read(inbound.space())?;
        if len == 0 {
            return Ok(());
        }
        inbound.filled(len);
        while let Some(message) = inbound.next() {
            if let Some(reply) = sink.take(message) {
                outbound.push_bytes(&reply);
            }
        }
        if !outbound.bytes().is_empty() {
            stream.write_all(outbound.bytes())?;
            outbound.clear();
        }
    }
}

pub(super) fn drive(task: &Task, server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let mut stream = connect(task, server)?;
    let mut inbound = Inbound::new();
    let mut outbound = Outbound::default();
    loop {
        match driver.step() {
            Step::Send(item) => {
                outbound.push(item);
                if outbound.is_full() {
                    stream.write_all(outbound.bytes())?;
                    outbound.clear();
                }
            }
            Step::Wait => {
                stream.write_all(outbound.bytes())?;
                outbound.clear();
                let len = stream.read(inbound.space())?;
                anyhow::ensure!(len > 0, "the server has gone");
                inbound.filled(len);
                while let Some(reply) = inbound.next() {
                    driver.reply(reply)?;
                }
            }
            Step::Done => return driver.finish(),
        }
    }
}
