//! One thread that writes, a few that read: closures come through bounded queues and are answered by value.
//!
//! The writer takes whatever is queued, runs each closure in a savepoint of its own, commits once and only then
//! answers all of them. So a lone caller waits for one sync of the disk, and many callers share it.

use std::cell::Cell;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::io;
use crate::signal::Signals;
use crate::{Signal, Snapshot, StoreError, Tx, backup, crash_point, ledger_log, schema};

/// Writes waiting at once: callers beyond it wait for a place, so memory stays bounded when the disk is slow.
pub const MAX_QUEUED_WRITES: usize = 4096;
/// Writes sharing one commit: beyond this the gain is gone and the first caller only waits longer.
pub const MAX_GROUP: usize = 512;
/// Reads waiting at once; as for writes.
const MAX_QUEUED_READS: usize = 4096;
/// The database's name in the folder.
pub(crate) const FILE_NAME: &str = "state.db";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads with a read-only connection each; at least 1.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: 4 }
    }
}

/// What the writer did since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Closures run.
    pub writes: u64,
    /// Groups committed.
    pub commits: u64,
    /// Microseconds spent in commits, i.e. waiting for the disk.
    pub commit_micros: u64,
}

/// A handle to the open store; clones share it. The last one to go finishes what is queued and closes the files.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writes: Mutex<Option<mpsc::Sender<Job>>>,
    reads: Mutex<Option<mpsc::Sender<ReadJob>>>,
    threads: Mutex<Threads>,
    signals: Arc<Signals>,
    counts: Arc<Counts>,
}

/// What [`Inner::shut`] waits for; empty once it has.
struct Threads {
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    writes: AtomicU64,
    commits: AtomicU64,
    commit_micros: AtomicU64,
}

/// Told whether its group became durable; answers the caller.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Runs in a savepoint, or is told why it cannot; says whether to keep its changes.
type WriteJob = Box<dyn FnOnce(Result<&Tx<'_>, StoreError>) -> (bool, Answer) + Send>;
type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

enum Job {
    Write(WriteJob),
    /// Runs on the writer's connection outside any transaction.
    Alone(ReadJob),
}

thread_local! {
    /// Set on the store's own threads: a call from one of them would wait for itself.
    static OWN_THREAD: Cell<bool> = const { Cell::new(false) };
}

impl Store {
    /// Opens or creates the store in `dir`, which no other process may have open. Blocks while it recovers.
    ///
    /// Locks the folder, migrates the schema, and checks that the ledger ends where its last record says.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        create_private_dir(dir)?;
        let lock = lock_dir(dir)?;
        let path = dir.join(FILE_NAME);
        create_private_file(&path)?;
        let conn = schema::open_writer(&path)?;
        ledger_log::check_end(&conn)?;

        let signals = Arc::new(Signals::new());
        let counts = Arc::new(Counts::default());
        let mut readers = Vec::new();
        let (reads, read_jobs) = mpsc::channel(MAX_QUEUED_READS);
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        for number in 0..options.readers.max(1) {
            let reader = schema::open_reader(&path)?;
            let jobs = Arc::clone(&read_jobs);
            readers.push(spawn(format!("store-read-{number}"), move || run_reader(&reader, &jobs))?);
        }
        let (writes, write_jobs) = mpsc::channel(MAX_QUEUED_WRITES);
        let writer = Writer {
            conn,
            jobs: write_jobs,
            signals: Arc::clone(&signals),
            counts: Arc::clone(&counts),
            broken: None,
            _lock: lock,
        };
        let writer = spawn("store-write".to_owned(), move || writer.run())?;
        let inner = Inner {
            path,
            writes: Mutex::new(Some(writes)),
            reads: Mutex::new(Some(reads)),
            threads: Mutex::new(Threads { readers, writer: Some(writer) }),
            signals,
            counts,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `work` in a transaction of its own and answers when it is durable.
    ///
    /// An `Err` from `work`, or a panic in it, undoes its changes alone. Dropping the future does not call
    /// `work` back once it is queued. `work` must be quick: all writers wait for it.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: WriteJob = Box::new(move |tx| {
            let result = tx.map_err(E::from).and_then(|tx| {
                catch_unwind(AssertUnwindSafe(|| work(tx)))
                    .unwrap_or_else(|_| Err(StoreError::Panicked.into()))
            });
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |durable| {
                // A caller that has gone away has its work done all the same.
                let _ = reply.send(durable.map_err(E::from).and(result));
            });
            (keep, answer)
        });
        self.send_write(Job::Write(job)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// As [`Store::write`], blocking the calling thread: for threads outside the asynchronous runtime.
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        block_on(self.write(work))
    }

    /// Runs `work` on one consistent state, beside the writer.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Snapshot<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |conn| {
            let _ = reply.send(read_in_transaction(conn, work));
        });
        let sender = open_sender(&self.inner.reads)?;
        sender.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// As [`Store::read`], blocking the calling thread.
    pub fn read_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Snapshot<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        block_on(self.read(work))
    }

    /// Counts the commits that touched what `signal` names, from now on; changes right after each such commit.
    pub fn subscribe(&self, signal: Signal) -> watch::Receiver<u64> {
        self.inner.signals.subscribe(signal)
    }

    /// What the writer did so far.
    pub fn stats(&self) -> Stats {
        let counts = &self.inner.counts;
        Stats {
            writes: counts.writes.load(Ordering::Relaxed),
            commits: counts.commits.load(Ordering::Relaxed),
            commit_micros: counts.commit_micros.load(Ordering::Relaxed),
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that no copy of a deleted key stays in it.
    ///
    /// `Busy` if a long read keeps the log in use. The disk's freed blocks are beyond the store's reach.
    pub async fn wal_truncate(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |conn| {
            let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            let _ = reply.send(match busy {
                Ok(0) => Ok(()),
                Ok(_) => Err(StoreError::Busy),
                Err(error) => Err(error.into()),
            });
        });
        self.send_write(Job::Alone(job)).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a checked copy of one consistent state to the new file `to` (0600) while the store goes on.
    ///
    /// Refuses if `to` exists. Blocks the calling thread; in the asynchronous runtime call it through
    /// `spawn_blocking`.
    pub fn backup(&self, to: &Path) -> Result<backup::BackupReport, StoreError> {
        if OWN_THREAD.get() {
            return Err(StoreError::Nested);
        }
        backup::write(&self.inner.path, to)
    }

    /// Finishes what is queued, closes the files and frees the folder; later calls get `Closed`. Blocks.
    pub fn close(&self) -> Result<(), StoreError> {
        if OWN_THREAD.get() {
            return Err(StoreError::Nested);
        }
        self.inner.shut();
        Ok(())
    }

    async fn send_write(&self, job: Job) -> Result<(), StoreError> {
        let sender = open_sender(&self.inner.writes)?;
        sender.send(job).await.map_err(|_| StoreError::Closed)
    }
}

impl Inner {
    fn shut(&self) {
        // One caller joins; another one waits here until it has.
        let mut threads = held(&self.threads);
        drop(held(&self.reads).take());
        threads.readers.drain(..).for_each(join);
        // The writer closes last: the connection that does folds the write-ahead log into the file, and a reader may not.
        drop(held(&self.writes).take());
        threads.writer.take().into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the store panicked");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shut();
    }
}

struct Writer {
    conn: Connection,
    jobs: mpsc::Receiver<Job>,
    signals: Arc<Signals>,
    counts: Arc<Counts>,
    /// Set for good by a commit that failed in an unknown way: after a failed sync the system may have dropped
    /// pages that we believe written, and only recovery at the next start tells.
    broken: Option<Arc<str>>,
    _lock: DirLock,
}

impl Writer {
    fn run(mut self) {
        OWN_THREAD.set(true);
        while let Some(job) = self.jobs.blocking_recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Alone(work) => work(&self.conn),
                    Job::Write(work) => next = self.commit_group(work),
                }
            }
        }
    }

    /// Runs `first` and what is queued behind it in one commit; gives back the job that may not share it.
    fn commit_group(&mut self, first: WriteJob) -> Option<Job> {
        if let Some(cause) = &self.broken {
            refuse(first, StoreError::Broken(Arc::clone(cause)));
            return None;
        }
        if let Err(error) = self.execute("BEGIN IMMEDIATE") {
            refuse(first, error);
            return None;
        }
        let mut answers = Vec::new();
        let mut touched = 0;
        let mut left_over = None;
        let mut job = Some(first);
        while let Some(work) = job.take() {
            let (signals, answer) = self.run_one(work);
            touched |= signals;
            answers.push(answer);
            if self.conn.is_autocommit() {
                // The engine undid the whole transaction (disk full, out of memory): nobody's work is there.
                fail(answers, "the engine undid the transaction");
                return None;
            }
            if answers.len() < MAX_GROUP {
                match self.jobs.try_recv() {
                    Ok(Job::Write(work)) => job = Some(work),
                    Ok(alone @ Job::Alone(_)) => left_over = Some(alone),
                    Err(_) => {}
                }
            }
        }
        crash_point("store.before-commit");
        let began = Instant::now();
        let committed = self.execute_raw("COMMIT");
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        crash_point("store.after-commit");
        match committed {
            Ok(()) => {
                self.counts.writes.fetch_add(answers.len() as u64, Ordering::Relaxed);
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.counts.commit_micros.fetch_add(micros, Ordering::Relaxed);
                for answer in answers {
                    answer(Ok(()));
                }
                self.signals.raise(touched);
            }
            Err(error) => {
                tracing::error!(%error, "commit failed");
                if !self.conn.is_autocommit()
                    && let Err(error) = self.execute("ROLLBACK")
                {
                    tracing::error!(%error, "rollback failed");
                }
                let cause: Arc<str> = error.to_string().into();
                if !can_go_on(&error) || !self.conn.is_autocommit() {
                    self.broken = Some(Arc::clone(&cause));
                }
                fail(answers, &cause);
            }
        }
        left_over
    }

    /// Runs one job in its savepoint; gives what it touched and whom to answer.
    fn run_one(&self, work: WriteJob) -> (u64, Answer) {
        if let Err(error) = self.execute("SAVEPOINT job") {
            return (0, work(Err(error)).1);
        }
        let tx = Tx::new(&self.conn);
        let (keep, answer) = work(Ok(&tx));
        let kept = keep && self.execute("RELEASE job").is_ok();
        if !kept && !self.conn.is_autocommit() {
            let undone = self.execute("ROLLBACK TO job").and_then(|()| self.execute("RELEASE job"));
            if let Err(error) = undone {
                tracing::error!(%error, "a savepoint could not be undone");
                // Undoing everything is always right: every caller of the group is told.
                let _ = self.execute("ROLLBACK");
            }
        }
        match (keep, kept) {
            (true, false) => {
                (0, Box::new(move |_| answer(Err(StoreError::CommitFailed("savepoint lost".into())))))
            }
            (true, true) => (tx.signals(), answer),
            (false, _) => (0, answer),
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.execute_raw(sql)?)
    }

    fn execute_raw(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// Whether a failed commit left the disk as it was before.
fn can_go_on(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
        )
    )
}

fn refuse(job: WriteJob, error: StoreError) {
    let (_, answer) = job(Err(error));
    answer(Ok(()));
}

fn fail(answers: Vec<Answer>, cause: &str) {
    let cause: Arc<str> = cause.into();
    for answer in answers {
        answer(Err(StoreError::CommitFailed(Arc::clone(&cause))));
    }
}

fn run_reader(conn: &Connection, jobs: &Mutex<mpsc::Receiver<ReadJob>>) {
    OWN_THREAD.set(true);
    loop {
        // The lock is held while waiting: whoever gets the job frees it for the next.
        let job = held(jobs).blocking_recv();
        match job {
            Some(job) => job(conn),
            None => return,
        }
    }
}

fn read_in_transaction<T, E: From<StoreError>>(
    conn: &Connection,
    work: impl FnOnce(&Snapshot<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let engine = |error: rusqlite::Error| E::from(StoreError::from(error));
    conn.execute_batch("BEGIN").map_err(engine)?;
    let result = catch_unwind(AssertUnwindSafe(|| work(&Snapshot { conn })))
        .unwrap_or_else(|_| Err(StoreError::Panicked.into()));
    conn.execute_batch("ROLLBACK").map_err(engine)?;
    result
}

fn open_sender<T>(sender: &Mutex<Option<mpsc::Sender<T>>>) -> Result<mpsc::Sender<T>, StoreError> {
    if OWN_THREAD.get() {
        return Err(StoreError::Nested);
    }
    held(sender).clone().ok_or(StoreError::Closed)
}

/// The content of a mutex whose holders cannot leave it half changed.
fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new().name(name).spawn(body).map_err(io("start a thread of the store"))
}

/// The lock on a store's folder, held for as long as this lives.
pub(crate) struct DirLock(File);

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing alone does not free it while a child that was just forked has not yet closed its copy of the handle.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the folder's lock is freed only with the process");
        }
    }
}

/// Locks the folder itself: closing a second handle of the database file would drop SQLite's own locks on it.
pub(crate) fn lock_dir(dir: &Path) -> Result<DirLock, StoreError> {
    let handle = File::open(dir).map_err(io(format!("open {}", dir.display())))?;
    match handle.try_lock() {
        Ok(()) => Ok(DirLock(handle)),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(io(format!("lock {}", dir.display()))(error)),
    }
}

pub(crate) fn create_private_dir(dir: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(io(format!("create {}", dir.display())))
}

/// Creates the file, readable by its owner alone, unless it is there; the log beside it gets the same mode.
fn create_private_file(path: &Path) -> Result<(), StoreError> {
    match private_options().create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(format!("create {}", path.display()))(error)),
    }
}

pub(crate) fn private_options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Waits for a future on this thread.
///
/// Outside the runtime's budget: this thread would otherwise spin once the budget of the task around it is spent.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
