use super::*;
use crate::session::identity::Identity;

const LIMIT: Duration = Duration::from_secs(1);

fn at(port: u16) -> PeerAddr {
    PeerAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Node 1 of the cluster, which means node 2 at port 2.
fn context(cluster: Option<&str>, incarnation: Option<u64>, required: bool) -> SessionContext {
    let mut identity = Identity::new(NodeId::new(1));
    if let Some(cluster) = cluster {
        identity = identity.cluster(cluster);
    }
    if let Some(incarnation) = incarnation {
        identity = identity.incarnation(incarnation);
    }
    let mut meant = Meant::default();
    meant.insert(NodeId::new(2), at(2));
    let identity = identity.resolve().expect("valid");
    SessionContext::new(identity, 7000, 100, meant, required, LIMIT)
}

fn info(node: u64, incarnation: u64, cluster: Option<&str>) -> NodeInfo {
    let mut info = context(cluster, Some(incarnation), true).me();
    info.node = NodeId::new(node);
    info
}

fn reason(answer: &Answer) -> Option<RefusedReason> {
    match answer {
        Answer::Welcome(..) => None,
        Answer::Refused(refused) => Some(refused.reason),
    }
}

#[test]
fn a_hello_is_refused_for_another_node_another_cluster_and_an_older_incarnation() {
    let context = Arc::new(context(Some("kv"), Some(5), true));
    let answer = |from: NodeInfo, to: u64| {
        let to = (to > 0).then(|| NodeId::new(to));
        reason(&context.answer(1, (&from, Lane::NORMAL), to))
    };
    let kv = Some("kv");
    assert_eq!(answer(info(2, 7, kv), 0), None);
    assert_eq!(answer(info(2, 7, kv), 1), None);
    assert_eq!(answer(info(2, 7, kv), 3), Some(RefusedReason::Node));
    assert_eq!(answer(info(2, 7, None), 1), Some(RefusedReason::Cluster));
    assert_eq!(
        answer(info(2, 7, Some("kw")), 1),
        Some(RefusedReason::Cluster)
    );
    let older = Some(RefusedReason::OlderIncarnation);
    assert_eq!(answer(info(2, 6, kv), 1), older);
    assert_eq!(answer(info(2, 8, kv), 1), None);
    assert_eq!(answer(info(1, 5, kv), 1), None, "it dials itself");
    assert_eq!(answer(info(1, 4, kv), 1), older);
    assert_eq!(answer(info(1, 6, kv), 1), Some(RefusedReason::SameNode));
}

#[test]
fn a_welcome_of_another_node_than_was_meant_is_refused() {
    let context = context(None, Some(5), true);
    let welcomed = |from: NodeInfo, meant: Option<u64>| {
        let session = context.welcomed(&from, meant.map(NodeId::new));
        session.err().map(|refused| refused.reason)
    };
    assert_eq!(welcomed(info(2, 7, None), None), None);
    assert_eq!(welcomed(info(2, 7, None), Some(2)), None);
    assert_eq!(
        welcomed(info(3, 7, None), Some(2)),
        Some(RefusedReason::Node)
    );
    let other = welcomed(info(2, 7, Some("kv")), None);
    assert_eq!(other, Some(RefusedReason::Cluster));
    let older = welcomed(info(2, 6, None), None);
    assert_eq!(older, Some(RefusedReason::OlderIncarnation));
}

#[test]
fn frames_wait_for_the_answer_if_a_session_a_node_or_a_cluster_is_demanded() {
    let demand = |cluster, required, port| {
        let demand = context(cluster, None, required).demand(&at(port));
        (demand.waits, demand.serves_mute)
    };
    assert_eq!(demand(None, false, 1), (false, true));
    assert_eq!(demand(None, false, 2), (true, false));
    assert_eq!(demand(Some("kv"), false, 1), (true, true));
    assert_eq!(demand(None, true, 1), (true, false));
}

#[test]
fn only_a_new_process_with_a_clock_that_is_behind_takes_the_next_incarnation() {
    let later = Incarnation::new(u64::MAX - 1);
    let told = |context: &SessionContext| {
        context.refused(Refused::older_than(later));
        context.me().incarnation == Incarnation::new(u64::MAX)
    };
    assert!(told(&context(None, None, true)));
    assert!(!told(&context(None, Some(5), true)), "its user chose it");
    let accepted = context(None, None, true);
    accepted.welcomed(&info(2, 7, None), None).expect("welcome");
    assert!(!told(&accepted), "it is out of date");
    let other = context(None, None, true);
    other.refused(Refused::because(RefusedReason::Cluster));
    assert!(other.me().incarnation < later);
}

/// The far end may send frames as soon as it has read the answer, and end the link for a better one.
#[test]
fn a_link_may_begin_from_its_answer_on_and_until_it_has_begun() {
    let context = Arc::new(context(None, Some(5), true));
    let (from, addr) = (info(2, 7, None), at(2).ip_addr().expect("an ip"));
    let open = |session, dialled| {
        context.open_link(session, (&from, Lane::NORMAL), addr, dialled, None, None)
    };
    let session = context.welcomed(&from, None).expect("welcome");
    let other = open(session, true);
    other.begin();
    let answer = || match context.answer(1, (&from, Lane::NORMAL), None) {
        Answer::Welcome(_, session, greeting) => (session, greeting),
        Answer::Refused(refused) => panic!("{refused:?}"),
    };
    assert!(!context.another_may_begin(&other));
    let (session, greeting) = answer();
    assert!(context.another_may_begin(&other), "it is not open yet");
    let link = open(session, false);
    drop(greeting);
    assert!(context.another_may_begin(&other), "nothing came yet");
    link.begin();
    assert!(!context.another_may_begin(&other));
    drop(answer());
    assert!(!context.another_may_begin(&other), "it was lost");
}
