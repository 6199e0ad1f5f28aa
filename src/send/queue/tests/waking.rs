//! How a push wakes the writer: by the doorbell.

use super::*;

/// Polls like a writer that finds the queue empty and goes to sleep.
fn sleep(queue: &SendQueue, waker: &Waker) {
    let ready = queue.poll_ready(&mut Context::from_waker(waker));
    assert!(ready.is_pending());
}

fn is_ready(queue: &SendQueue) -> bool {
    let ready = queue.poll_ready(&mut Context::from_waker(Waker::noop()));
    ready.is_ready()
}

fn doorbell(queue: &SendQueue) -> Doorbell {
    queue.push((), GROUP, b"x", at(0)).expect("there is room")
}

#[test]
fn only_the_first_push_wakes_a_sleeping_writer() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    sleep(&queue, &waker);
    push(&queue, b"a", 0).unwrap();
    push(&queue, b"b", 0).unwrap();
    assert_eq!(woken.times(), 1, "the first push woke it");
    assert!(is_ready(&queue));
}

#[test]
fn the_doorbell_wakes_the_writer_when_it_is_dropped_and_not_before() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    sleep(&queue, &waker);
    let first = doorbell(&queue);
    let second = doorbell(&queue);
    assert!(!first.is_silent());
    assert!(second.is_silent(), "the first sender has the doorbell");
    drop(second);
    assert_eq!(woken.times(), 0);
    drop(first);
    assert_eq!(woken.times(), 1);
}

#[test]
fn a_doorbell_rehung_on_an_empty_queue_wakes_the_writer_at_the_next_push() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    sleep(&queue, &waker);
    let doorbell = doorbell(&queue);
    write(&queue);
    assert!(queue.rehang(doorbell).is_none());
    assert_eq!(woken.times(), 0, "there is nothing to do");
    push(&queue, b"next", 0).unwrap();
    assert_eq!(woken.times(), 1);
}

#[test]
fn rehanging_gives_the_doorbell_back_if_the_writer_has_something_to_do() {
    let queue = queue(limits());
    let (woken, waker) = Woken::new();
    sleep(&queue, &waker);
    let first = doorbell(&queue);
    let first = queue.rehang(first).expect("a frame is queued");
    assert!(!first.is_silent());
    write(&queue);
    queue.seal();
    assert_eq!(woken.times(), 0, "the sender has the doorbell");
    drop(queue.rehang(first).expect("the writer must see the end"));
    assert_eq!(woken.times(), 1);
}

#[test]
fn rehanging_an_older_doorbell_does_not_replace_a_newer_one() {
    let queue = queue(limits());
    let (older, older_waker) = Woken::new();
    let (newer, newer_waker) = Woken::new();
    sleep(&queue, &older_waker);
    let doorbell = doorbell(&queue);
    write(&queue);
    sleep(&queue, &newer_waker);
    assert!(queue.rehang(doorbell).is_none());
    push(&queue, b"next", 0).unwrap();
    assert_eq!((older.times(), newer.times()), (0, 1));
}
