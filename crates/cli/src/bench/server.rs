//! The accepting end of a benchmark.

use super::protocol::{KIND_CALL, KIND_STREAM, KIND_TALLY, REPLY_BYTES, Tally, cpu_time, fold};
use bytes::Bytes;
use outlast::{Message, Messenger, Session};

/// Messages taken at once.
const BATCH: usize = 256;

/// Serves whoever comes, one benchmark after the other.
pub(super) async fn serve(messenger: Messenger) {
    while let Some(session) = messenger.accept().await {
        tokio::spawn(one(session));
    }
}

async fn one(session: Session) {
    let reply = Bytes::from(vec![0x5a; REPLY_BYTES]);
    let mut tally = Tally::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        if session.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        for message in &batch {
            tally.messages += 1;
            tally.bytes += message.data.len() as u64;
            tally.folded ^= fold(&message.data);
            let answer = match message.kind {
                KIND_STREAM => continue,
                KIND_CALL => Message::new(KIND_CALL).data(reply.clone()),
                KIND_TALLY => {
                    let said = Tally { cpu: cpu_time(), ..tally };
                    Message::new(KIND_TALLY).front(serde_json::to_vec(&said).unwrap_or_default())
                }
                _ => return,
            };
            if session.reply(message, answer).await.is_err() {
                return;
            }
        }
    }
}
