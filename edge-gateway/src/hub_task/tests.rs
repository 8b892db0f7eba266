use std::time::Duration;

use gateway_core::mqtt::{Qos, SubscriptionOptions, Topic, Will};
use process::Shutdown;

use super::*;

/// A hub without a store: nothing here has a will.
fn start() -> HubHandle {
    let store = StoreHandle::closed();
    // Nobody watches for the end of a vital part here.
    spawn(Hub::new(Vec::new()), Clock::start(), store, &Shutdown::new().0).0
}

async fn ask(hub: &HubHandle, client_id: &str, session_expiry_s: u32) -> Mailbox {
    let (mail, mailbox) = mpsc::unbounded_channel();
    let client_id = client_id.into();
    let entry = Entry { client_id, clean_start: false, session_expiry_s, will: None };
    hub.requests().send(Request::Enter(entry, mail)).await.unwrap();
    mailbox
}

/// What comes next, within a time that no busy machine needs.
async fn next(mailbox: &mut Mailbox) -> Option<Mail> {
    tokio::time::timeout(Duration::from_secs(60), mailbox.recv()).await.unwrap()
}

async fn admitted(mailbox: &mut Mailbox) -> (Ticket, SessionGrant) {
    match next(mailbox).await {
        Some(Mail::Admitted(ticket, grant)) => (ticket, grant),
        other => panic!("{other:?}"),
    }
}

async fn leave(hub: &HubHandle, ticket: Ticket, mailbox: Mailbox) {
    ticket.leave(hub, SessionState::default(), mailbox, Departure::LOST).await;
}

async fn subscribe(hub: &HubHandle, ticket: &Ticket, mailbox: &mut Mailbox) {
    let filters = vec![("#".into(), SubscriptionOptions::v311(Qos::AtLeastOnce))];
    let request = SubscribeRequest { packet_id: NonZeroU16::MIN, filters };
    hub.requests().send(Request::Subscribe(ticket.place, request)).await.unwrap();
    assert!(matches!(next(mailbox).await, Some(Mail::Subscribed(..))));
}

async fn publish(hub: &HubHandle, number: u8) {
    let message = Message {
        topic: Topic::new(Text::new(Bytes::from_static(b"t")).unwrap()).unwrap(),
        payload: vec![number].into(),
        retain: false,
        ..Message::of_gateway("t", Bytes::new()).unwrap()
    };
    hub.requests().send(Request::Publish(vec![Arc::new(message)])).await.unwrap();
}

async fn forwarded(mailbox: &mut Mailbox) -> u8 {
    match next(mailbox).await {
        Some(Mail::Forward(forward)) => forward.message.payload[0],
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_connection_waits_until_the_first_is_off() {
    let hub = start();
    let mut first = ask(&hub, "dev1", 0).await;
    let (ticket, _) = admitted(&mut first).await;
    let mut second = ask(&hub, "dev1", 0).await;
    assert!(matches!(next(&mut first).await, Some(Mail::Evicted)));
    assert!(second.try_recv().is_err(), "the first is still there");
    let mut third = ask(&hub, "dev1", 0).await;
    assert!(matches!(next(&mut second).await, Some(Mail::TurnedAway)));
    leave(&hub, ticket, first).await;
    admitted(&mut third).await;
}

#[tokio::test]
async fn a_lost_ticket_frees_its_place() {
    let hub = start();
    let mut first = ask(&hub, "dev1", 0).await;
    drop(admitted(&mut first).await);
    admitted(&mut ask(&hub, "dev1", 0).await).await;
}

/// Messages go to a connection, come back with it however far they came, and go to the next one, in order.
#[tokio::test]
async fn messages_outlive_connections() {
    let hub = start();
    let mut first = ask(&hub, "dev1", 60).await;
    let (ticket, _) = admitted(&mut first).await;
    assert!(!hub.is_listening());
    subscribe(&hub, &ticket, &mut first).await;
    assert!(hub.is_listening());
    publish(&hub, 1).await;
    // Sent and lost, as a connection that never passed it on would lose it.
    assert_eq!(forwarded(&mut first).await, 1);
    // Closed: what comes now is refused by the mailbox.
    let waiting = ask(&hub, "dev1", 60).await;
    while !matches!(first.try_recv(), Ok(Mail::Evicted)) {
        tokio::task::yield_now().await;
    }
    first.close();
    publish(&hub, 2).await;
    // Who gives up waiting loses nothing either.
    drop(waiting);
    leave(&hub, ticket, first).await;
    let mut last = ask(&hub, "dev1", 60).await;
    let (_ticket, grant) = admitted(&mut last).await;
    assert!(grant.present);
    assert_eq!(forwarded(&mut last).await, 2);
    publish(&hub, 3).await;
    assert_eq!(forwarded(&mut last).await, 3);
}

/// Wills have no budget of bytes as publishes have, and whoever leaves one is gone before it is stored.
#[tokio::test]
async fn a_flood_of_wills_waits_for_the_store() {
    let (store, _stalled) = StoreHandle::stalled();
    let hub = spawn(Hub::new(Vec::new()), Clock::start(), store, &Shutdown::new().0).0;
    let will = Will {
        topic: Topic::new(Text::new(Bytes::from_static(b"t")).unwrap()).unwrap(),
        payload: Bytes::new(),
        qos: Qos::AtMostOnce,
        retain: false,
        properties: None,
        delay_s: 0,
    };
    let (mut entered, mut mailboxes) = (0, Vec::new());
    loop {
        let (mail, mailbox) = mpsc::unbounded_channel();
        let (client_id, will) = (format!("dev{entered}").into(), Some(Box::new(will.clone())));
        let entry = Entry { client_id, clean_start: true, session_expiry_s: 0, will };
        if hub.requests().try_send(Request::Enter(entry, mail)).is_ok() {
            entered += 1;
            mailboxes.push(mailbox);
            assert!(entered < 10 * WILLS_UNDER_WAY_MAX, "one after the other");
            continue;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        if hub.requests().capacity() == 0 {
            break;
        }
        // With the tickets that are in them: the connections are lost.
        mailboxes.clear();
    }
    assert!(entered > WILLS_UNDER_WAY_MAX);
}
