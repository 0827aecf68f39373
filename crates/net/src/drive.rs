//! The loop of one connection.

use crate::{Clock, Socket};
use outlast_session::{Instant, StreamChannel};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Bytes read before what they brought is handed on, and its receivers have their turn: the messages are still in the
/// cache then, the read buffer is free again for the next ones, and a fast peer cannot keep the connection from
/// writing.
pub const READ_BYTES_PER_TURN: usize = 128 << 10;
/// Slices that one system call writes at most. More than 64 bring no gain that can be measured.
const SLICES_MAX: usize = 64;
/// Tried first.
const SLICES_FEW: usize = 4;
/// Turns that a connection takes before other tasks have theirs.
const TURNS_MAX: usize = 32;
/// How long a connection that ended in order waits for the peer to close too. A socket closed with unread bytes sends
/// a reset, which may overtake the last words.
pub const LINGER_MAX: Duration = Duration::from_secs(1);
/// Bytes read and thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Whether the session has more for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Everything that can be written now was handed to the channel.
    Done,
    /// The channel is full: ask again once it has written something.
    More,
}

/// What the owner of a connection contributes to its loop: the meeting of channel and session.
pub trait Host<C: StreamChannel> {
    /// Called in every turn of the loop, between reading and writing: take from the channel what is for others, lock
    /// the session, and let them [`StreamChannel::sync`].
    ///
    /// `waker` brings the loop back, from any thread, when the session has something for this connection: keep a
    /// clone, under the same lock as the session so that no wake is lost, and wake it once per exchange at most.
    ///
    /// # Errors
    /// The connection ends.
    fn exchange(&mut self, channel: &mut C, now: Instant, waker: &Waker) -> Result<Exchange, C::Error>;

    /// Called when everything was written that the socket takes: whether the connection has come to its orderly end.
    fn finished(&mut self, channel: &mut C) -> Option<C::Error>;
}

/// Why a connection ended.
#[derive(Debug)]
pub struct DriveEnd<E> {
    /// The channel's reason.
    pub error: E,
    /// What the system said, if it was the socket that failed.
    pub socket: Option<io::Error>,
}

/// One connection, and what it takes to run it.
///
/// It is run by one task, [`drive`]. Another task that has just given the session something may [`Driver::push`] it out
/// itself, when the connection's task sleeps: that saves waking it, and half of what a small message costs.
#[derive(Debug)]
pub struct Driver<C: StreamChannel, H> {
    socket: Socket,
    channel: C,
    host: H,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    /// What the channel said at the end of the last turn.
    deadline: Option<Instant>,
    /// What the runtime's timer is set to. It is moved only to an earlier time: deadlines move on with every message,
    /// and a timer that runs out too early costs less than one that is set anew each time.
    armed: Option<Instant>,
    /// The connection's task; the socket and the timer wake it.
    task: Option<Waker>,
    /// A push has met the end; the connection's task will tell.
    stopped: Option<Stop<C::Error>>,
}

/// Runs one connection until it ends.
///
/// One turn is: the timer, if it has run out; reading until nothing is left or [`READ_BYTES_PER_TURN`] came;
/// [`Host::exchange`]; writing until nothing is left or the socket is full. Turns repeat while there is work, with
/// other tasks in between, then the task sleeps until the socket, the timer or the host's waker.
///
/// Dropping the driver closes the connection. The channel is then as if the line had been cut.
pub async fn drive<C, H>(driver: &Mutex<Driver<C, H>>) -> DriveEnd<C::Error>
where
    C: StreamChannel,
    H: Host<C>,
{
    let lock = || driver.lock().unwrap_or_else(PoisonError::into_inner);
    let (end, orderly) = poll_fn(|cx| lock().poll(cx)).await;
    if orderly {
        // The peer closes when it has read our last word, and that closes this end too.
        let mut linger = Linger::default();
        let _ = tokio::time::timeout(LINGER_MAX, poll_fn(|cx| linger.poll(&mut lock().socket, cx))).await;
    }
    end
}

/// Why the loop ends.
#[derive(Debug)]
enum Stop<E> {
    Channel(E),
    /// The peer closed its direction.
    Eof,
    Socket(io::Error),
}

/// What to do after a turn.
enum After {
    /// Another one: there is more to do at once.
    Again,
    /// Another one, when those have run for whom something came in.
    Others,
    /// Nothing before something happens.
    Sleep,
}

/// How far reading came.
enum Read {
    /// Until there was nothing left.
    All,
    /// Until the channel wanted no more: what it waits for is a meeting with its session.
    Paused,
    /// There may be more.
    Some,
    /// To the end of the stream. What came before it is still to be handed on.
    End(Option<io::Error>),
}

impl<C: StreamChannel, H: Host<C>> Driver<C, H> {
    /// A connection that is not driven yet. To be called within a tokio runtime.
    #[must_use]
    pub fn new(socket: Socket, channel: C, host: H, clock: Clock) -> Self {
        let timer = Box::pin(tokio::time::sleep(crate::CLOCK_CHECK_MAX));
        let deadline = channel.poll_timeout();
        Self { socket, channel, host, clock, timer, deadline, armed: None, task: None, stopped: None }
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> &C {
        &self.channel
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// Half a turn, in the caller's task: lets the channel meet its session and writes what came of it, as far as the
    /// socket takes it. Whatever remains is the connection's task's, which is woken for it.
    pub fn push(&mut self) {
        let Some(task) = self.task.clone() else { return };
        if self.stopped.is_some() {
            return;
        }
        let now = self.clock.now();
        let mut cx = Context::from_waker(&task);
        let exchange = self.host.exchange(&mut self.channel, now, &task).map_err(Stop::Channel);
        let pushed = exchange.and_then(|exchange| Ok((exchange, self.write(&mut cx, now)?)));
        self.deadline = self.channel.poll_timeout();
        let remains = match pushed {
            Ok((exchange, all_written)) => exchange == Exchange::More && all_written,
            Err(stop) => {
                self.stopped = Some(stop);
                true
            }
        };
        if remains || self.wants_timer() || self.host.finished(&mut self.channel).is_some() {
            task.wake();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(DriveEnd<C::Error>, bool)> {
        match &mut self.task {
            Some(known) if known.will_wake(cx.waker()) => {}
            known => {
                *known = Some(cx.waker().clone());
                // The timer is to wake this one.
                self.armed = None;
            }
        }
        for _ in 0..TURNS_MAX {
            let now = self.clock.now();
            let after = match self.stopped.take().map_or_else(|| self.turn(cx, now), Err) {
                Ok(after) => after,
                Err(stop) => {
                    // A last word to the peer, if the socket takes it at once.
                    let _ = self.write(cx, now);
                    return Poll::Ready((self.end(stop, now), false));
                }
            };
            if let Some(error) = self.host.finished(&mut self.channel) {
                return Poll::Ready((DriveEnd { error, socket: None }, true));
            }
            match after {
                After::Again => continue,
                After::Others => break,
                After::Sleep => {}
            }
            if self.sleep(cx, now).is_pending() {
                return Poll::Pending;
            }
        }
        // There is more to do; the others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the timer would come too late.
    fn wants_timer(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.armed.is_none_or(|armed| deadline < armed))
    }

    /// Sets the timer. Ready if its time has come meanwhile.
    fn sleep(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let runs = self.armed.is_some_and(|armed| armed > now) && !self.timer.is_elapsed();
        if runs && !self.wants_timer() {
            return Poll::Pending;
        }
        self.timer.as_mut().reset(self.clock.timer(deadline, now));
        self.armed = Some(deadline.min(now + crate::CLOCK_CHECK_MAX));
        self.timer.as_mut().poll(cx)
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<After, Stop<C::Error>> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.channel.handle_timeout(now).map_err(Stop::Channel)?;
        }
        let read = self.read(cx, now).map_err(Stop::Channel)?;
        let exchange = self.host.exchange(&mut self.channel, now, cx.waker()).map_err(Stop::Channel)?;
        match read {
            Read::All | Read::Paused | Read::Some => {}
            Read::End(None) => return Err(Stop::Eof),
            Read::End(Some(error)) => return Err(Stop::Socket(error)),
        }
        let all_written = self.write(cx, now)?;
        self.deadline = self.channel.poll_timeout();
        let reads_again = matches!(read, Read::Paused) && !self.channel.poll_read().is_empty();
        Ok(if matches!(read, Read::Some) {
            After::Others
        } else if reads_again || (exchange == Exchange::More && all_written) {
            After::Again
        } else {
            After::Sleep
        })
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Read, C::Error> {
        let mut total = 0;
        while total < READ_BYTES_PER_TURN {
            let buffer = self.channel.poll_read();
            if buffer.is_empty() {
                return Ok(Read::Paused);
            }
            match self.socket.poll_read(cx, buffer) {
                Poll::Pending => return Ok(Read::All),
                Poll::Ready(Ok(0)) => return Ok(Read::End(None)),
                Poll::Ready(Ok(len)) => {
                    self.channel.handle_read(len, now)?;
                    total += len;
                }
                Poll::Ready(Err(error)) => return Ok(Read::End(Some(error))),
            }
        }
        Ok(Read::Some)
    }

    /// Whether everything was written.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop<C::Error>> {
        loop {
            // Most often there is nothing, or one small message, and a large array costs more than to ask twice.
            let mut few = [IoSlice::new(&[]); SLICES_FEW];
            let count = self.channel.poll_write(&mut few);
            let written = if count == 0 {
                return Ok(true);
            } else if count < SLICES_FEW {
                self.socket.poll_write(cx, &few[..count])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.channel.poll_write(&mut slices);
                self.socket.poll_write(cx, &slices[..count])
            };
            match written {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(Stop::Socket(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => self.channel.handle_written(len, now),
                Poll::Ready(Err(error)) => return Err(Stop::Socket(error)),
            }
        }
    }

    fn end(&mut self, stop: Stop<C::Error>, now: Instant) -> DriveEnd<C::Error> {
        match stop {
            Stop::Channel(error) => DriveEnd { error, socket: None },
            Stop::Eof => DriveEnd { error: self.channel.handle_eof(now), socket: None },
            Stop::Socket(error) => DriveEnd { error: self.channel.handle_eof(now), socket: Some(error) },
        }
    }
}

/// Says that nothing more comes and reads until the peer has said so too.
#[derive(Default)]
struct Linger {
    shut: bool,
    thrown_away: usize,
}

impl Linger {
    fn poll(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(socket.poll_shutdown(cx))?;
            self.shut = true;
        }
        let mut buffer = [0; 2048];
        while self.thrown_away < LINGER_BYTES_MAX {
            match ready!(socket.poll_read(cx, &mut buffer))? {
                0 => break,
                len => self.thrown_away += len,
            }
        }
        Poll::Ready(Ok(()))
    }
}
