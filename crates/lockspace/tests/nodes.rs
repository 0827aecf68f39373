//! Nodes of ours on addresses of loopback.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use outlast_dlm::State;
use outlast_dlm::wire::{LockspaceId, Mode, NodeId};
use outlast_lockspace::node::{
    LockError, LockOptions, Lockspace, LockspaceConfig, LockspaceEvent, Node, NodeConfig, NodeError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const PATIENCE: Duration = Duration::from_secs(20);
const A_WHILE: Duration = Duration::from_millis(200);

/// Addresses that no other test has, of this process or another.
struct Net {
    third: u8,
    second: u8,
    port: u16,
}

impl Net {
    fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let pid = std::process::id();
        let second = 128 + (pid % 64) as u8;
        let third = (pid / 64 % 16) as u8 * 16 + COUNT.fetch_add(1, Ordering::Relaxed) % 16;
        let mut net = Self { third, second, port: 0 };
        // The port must be free on all of them, and is on addresses that nobody else uses.
        let probe = std::net::TcpListener::bind((net.at(1), 0)).unwrap();
        net.port = probe.local_addr().unwrap().port();
        net
    }

    fn at(&self, node: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.second, self.third, node))
    }

    fn config(&self, node: u8, nodes: u8) -> NodeConfig {
        let mut config =
            NodeConfig { port: self.port, ..NodeConfig::new(NodeId(node.into()), self.at(node)) };
        for other in (1..=nodes).filter(|other| *other != node) {
            config = config.peer(NodeId(other.into()), self.at(other));
        }
        config
    }

    async fn start(&self, node: u8, nodes: u8) -> Node {
        Node::start(self.config(node, nodes)).await.unwrap()
    }
}

fn ids(nodes: &[u32]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn lockspace() -> LockspaceConfig {
    LockspaceConfig::named("test")
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Two nodes in one lockspace.
async fn two() -> (Net, [Node; 2], [Lockspace; 2]) {
    let net = Net::new();
    let (first, second) = (net.start(1, 2).await, net.start(2, 2).await);
    let members = ids(&[1, 2]);
    let (one, two) =
        soon(async { tokio::join!(first.join(lockspace(), &members), second.join(lockspace(), &members)) })
            .await;
    (net, [first, second], [one.unwrap(), two.unwrap()])
}

#[test]
fn a_lockspace_has_the_number_that_linuxs_cluster_software_gives_to_its_name() {
    // Python: zlib.crc32(b"dlm:ls:test\0").
    assert_eq!(lockspace().id, LockspaceId(0x7722_2027));
}

#[tokio::test]
async fn a_lock_goes_from_one_node_to_the_other() {
    let (_net, nodes, [one, two]) = two().await;
    let held = soon(one.lock("r", Mode::Exclusive)).await.unwrap();
    assert!(soon(two.try_lock("r", Mode::ProtectedRead)).await.unwrap().is_none());
    let within = LockOptions::new(Mode::ProtectedRead).within(A_WHILE);
    assert_eq!(soon(two.lock("r", within)).await.unwrap_err(), LockError::Deadline);
    let waiting = tokio::spawn(async move { two.lock("r", Mode::ProtectedRead).await });
    assert_eq!(soon(held.blocking()).await, Ok(Mode::ProtectedRead));
    soon(held.unlock()).await.unwrap();
    let guard = soon(waiting).await.unwrap().unwrap();
    assert_eq!(guard.mode(), Mode::ProtectedRead);
    let shown = one.resources().unwrap();
    assert_eq!(shown.iter().filter(|resource| resource.name.as_bytes() == b"r").count(), 1);
    for node in &nodes {
        assert_eq!(node.peers()[0].state, State::Established);
    }
}

#[tokio::test]
async fn a_future_that_is_dropped_takes_its_request_back() {
    let (_net, _nodes, [one, two]) = two().await;
    let held = soon(one.lock("r", Mode::Exclusive)).await.unwrap();
    for _ in 0..5 {
        let asked = tokio::time::timeout(A_WHILE / 10, two.lock("r", Mode::Exclusive)).await;
        assert!(asked.is_err(), "it waits");
    }
    drop(held);
    // Nobody holds it, and nobody waits for it.
    let guard = soon(one.lock("r", LockOptions::new(Mode::Exclusive).within(PATIENCE / 2))).await.unwrap();
    soon(guard.unlock()).await.unwrap();
}

#[tokio::test]
async fn a_deadline_holds_while_the_membership_changes_and_the_request_is_taken_back_afterwards() {
    let (_net, _nodes, [one, two]) = two().await;
    let held = soon(one.lock("r", Mode::ProtectedRead)).await.unwrap();
    one.suspend().unwrap();
    two.suspend().unwrap();
    let within = LockOptions::new(Mode::Exclusive).within(A_WHILE);
    for name in ["r", "new"] {
        assert_eq!(soon(two.lock(name, within.clone())).await.unwrap_err(), LockError::Deadline);
    }
    for space in [&one, &two] {
        space.set_members(&ids(&[1, 2]), 1).unwrap();
    }
    soon(one.recovered()).await.unwrap();
    soon(held.unlock()).await.unwrap();
    for name in ["r", "new"] {
        let guard =
            soon(one.lock(name, LockOptions::new(Mode::Exclusive).within(PATIENCE / 2))).await.unwrap();
        soon(guard.unlock()).await.unwrap();
    }
}

#[tokio::test]
async fn a_guard_that_is_dropped_gives_its_lock_up_and_writes_its_value() {
    let (_net, _nodes, [one, two]) = two().await;
    // A value block lives as long as there is any lock.
    let _keeps = soon(two.lock("r", Mode::Null)).await.unwrap();
    let mut guard = soon(one.lock("r", LockOptions::new(Mode::Exclusive).with_value_block())).await.unwrap();
    guard.set_value(vec![7; 32]);
    drop(guard);
    let guard = soon(two.lock("r", LockOptions::new(Mode::ProtectedRead).with_value_block())).await.unwrap();
    assert_eq!((guard.value(), guard.is_value_valid()), (Some(&[7; 32][..]), true));
}

#[tokio::test]
async fn conversions_of_two_that_wait_for_each_other_are_a_deadlock_that_one_is_told_of() {
    let (_net, _nodes, [one, two]) = two().await;
    let mut first = soon(one.lock("r", Mode::ProtectedRead)).await.unwrap();
    let mut second = soon(two.lock("r", Mode::ProtectedRead)).await.unwrap();
    let (a, b) = soon(async {
        tokio::join!(
            async {
                let ended = first.convert(Mode::Exclusive).await;
                if ended.is_err() {
                    first.unlock().await.unwrap();
                    return (ended, None);
                }
                (ended, Some(first))
            },
            async {
                let ended = second.convert(Mode::Exclusive).await;
                if ended.is_err() {
                    second.unlock().await.unwrap();
                    return (ended, None);
                }
                (ended, Some(second))
            }
        )
    })
    .await;
    let ends = [&a.0, &b.0];
    assert_eq!(ends.iter().filter(|end| **end == &Err(LockError::Deadlock)).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
}

#[tokio::test]
async fn what_is_no_frame_costs_its_connection_and_not_the_lockspace() {
    let net = Net::new();
    let node = net.start(1, 2).await;
    let space = soon(node.join(lockspace(), &ids(&[1]))).await.unwrap();
    let guard = soon(space.lock("r", Mode::Exclusive)).await.unwrap();
    // From the address of node 2, and from one that is no node's.
    for (from, garbage) in
        [(2, &b"GET / HTTP/1.1\r\n\r\n"[..]), (2, &[0; 64]), (2, &[0xff; 4096]), (9, b"hello")]
    {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(net.at(from), 0)).unwrap();
        let mut stream = soon(socket.connect(SocketAddr::new(net.at(1), net.port))).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let ended = soon(stream.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "the connection ends");
    }
    assert!(space.is_running());
    soon(guard.unlock()).await.unwrap();
    // The real node 2 is welcome.
    let second = net.start(2, 2).await;
    let members = ids(&[1, 2]);
    space.set_members(&members, 0).unwrap();
    soon(second.join(lockspace(), &members)).await.unwrap();
    soon(space.recovered()).await.unwrap();
}

#[tokio::test]
async fn who_opens_connection_after_connection_keeps_a_few() {
    let net = Net::new();
    let node = net.start(1, 2).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(net.at(2), 0)).unwrap();
        streams.push(soon(socket.connect(SocketAddr::new(net.at(1), net.port))).await.unwrap());
    }
    // They say nothing, and the older ones are closed nevertheless.
    for stream in &mut streams[1..16] {
        assert!(matches!(soon(stream.read(&mut [0; 1])).await, Ok(0) | Err(_)));
    }
    assert_eq!(node.peers()[0].statistics.channels, outlast_dlm::session::CHANNELS_MAX);
}

#[tokio::test]
async fn a_member_that_stands_still_for_a_while_loses_no_request() {
    /// More than a session keeps.
    const REQUESTS: usize = 80_000;
    let net = Net::new();
    let config = net.config(2, 2);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Node::start(config).await.unwrap();
            let _space = node.join(lockspace(), &ids(&[1, 2])).await.unwrap();
            // Nothing of it runs.
            std::thread::sleep(Duration::from_secs(1));
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    });
    let node = net.start(1, 2).await;
    let space = soon(node.join(lockspace(), &ids(&[1, 2]))).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..REQUESTS {
        let space = space.clone();
        asking.spawn(async move { space.lock(format!("r{number}"), Mode::Exclusive).await.map(drop) });
    }
    let all = async {
        let mut granted = 0;
        while let Some(asked) = asking.join_next().await {
            asked.unwrap().unwrap();
            granted += 1;
        }
        granted
    };
    let granted = tokio::time::timeout(3 * PATIENCE, all).await.expect("all are answered");
    assert_eq!(granted, REQUESTS);
    assert_eq!(node.peers()[0].statistics.lost, 0);
    drop(stop);
    let _ = other.join();
}

#[tokio::test]
async fn who_shuts_down_says_goodbye_and_the_others_are_told() {
    let (_net, nodes, [one, two]) = two().await;
    let mut events = one.events().unwrap();
    let [first, second] = nodes;
    let held = soon(two.lock("r", Mode::Exclusive)).await.unwrap();
    let shared = one.clone();
    let waiting = tokio::spawn(async move { shared.lock("r", Mode::Exclusive).await });
    two.leave();
    one.set_members(&ids(&[1]), 1).unwrap();
    assert!(soon(second.shut_down()).await, "both ends said goodbye");
    let guard = soon(waiting).await.unwrap().unwrap();
    assert_eq!(guard.mode(), Mode::Exclusive);
    assert_eq!(soon(held.unlock()).await, Err(LockError::Left));
    assert_eq!(soon(events.recv()).await.unwrap(), LockspaceEvent::RecoveryBegun);
    assert!(
        matches!(soon(events.recv()).await.unwrap(), LockspaceEvent::RecoveryDone { members, .. } if members.len() == 1)
    );
    assert_eq!(first.peers()[0].statistics.lost, 0);
    one.leave();
    assert!(soon(first.shut_down()).await);
}

#[tokio::test]
async fn nodes_that_hear_of_a_change_at_different_times_wait_for_each_other() {
    let net = Net::new();
    let nodes = [net.start(1, 3).await, net.start(2, 3).await, net.start(3, 3).await];
    let members = ids(&[1, 2, 3]);
    let joined = soon(async {
        tokio::join!(
            nodes[0].join(lockspace(), &members),
            nodes[1].join(lockspace(), &members),
            nodes[2].join(lockspace(), &members)
        )
    });
    let (one, two, three) = joined.await;
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    let held = soon(three.lock("r", Mode::Exclusive)).await.unwrap();
    // The third dies. The first hears of it long before the second.
    std::mem::forget(held);
    drop(three);
    let [first, second, third] = nodes;
    drop(third);
    first.fence(NodeId(3));
    one.set_members(&ids(&[1, 2]), 1).unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert!(!one.is_running(), "the second has not stopped yet");
    assert!(two.is_running());
    second.fence(NodeId(3));
    two.set_members(&ids(&[1, 2]), 1).unwrap();
    soon(one.recovered()).await.unwrap();
    soon(two.recovered()).await.unwrap();
    let guard = soon(two.lock("r", Mode::Exclusive)).await.unwrap();
    soon(guard.unlock()).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let net = Net::new();
    let config = net.config(1, 2).peer(NodeId(3), net.at(2));
    assert!(matches!(Node::start(config).await.unwrap_err(), NodeError::Config { node: NodeId(3), .. }));
    let node = net.start(1, 2).await;
    assert!(matches!(node.add_peer(NodeId(4), net.at(2)), Err(NodeError::Config { .. })));
    let unknown = soon(node.join(lockspace(), &ids(&[1, 7]))).await;
    assert!(matches!(unknown.unwrap_err(), NodeError::NoAddress(NodeId(7))));
    let without = soon(node.join(lockspace(), &ids(&[2]))).await;
    assert!(matches!(without.unwrap_err(), NodeError::Members(_)));
    let space = soon(node.join(lockspace(), &ids(&[1]))).await.unwrap();
    assert!(matches!(soon(node.join(lockspace(), &ids(&[1]))).await.unwrap_err(), NodeError::Joined(_)));
    for name in [&[][..], &[0; 65]] {
        assert!(matches!(soon(space.lock(name, Mode::Null)).await, Err(LockError::User(_))));
    }
}
