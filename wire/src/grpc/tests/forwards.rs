//! Commands to another manager.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use vouch_types::{ManagerId, Network};

use super::fixture::*;
use crate::grpc::forward_stream::{REQUEST_MAX, SERVED_MAX};
use crate::grpc::serve::{serve, server};
use crate::grpc::{GrpcPeerLinks, PeerInfo};
use crate::links::{LinkError, PeerLink};
use crate::pki::server_config;
use crate::proto;
use crate::proto::forward_request::Request as Forwarded;
use crate::proto::forward_response::Response as Answer;
use crate::proto::peer_service_server::{PeerService, PeerServiceServer};

const M1: ManagerId = ManagerId::new(1);

fn command(bytes: impl Into<Vec<u8>>) -> proto::ForwardRequest {
    proto::ForwardRequest { request: Some(Forwarded::Command(bytes.into())) }
}

fn applied(answer: Result<proto::ForwardResponse, LinkError>) -> Vec<u8> {
    match answer.unwrap().response {
        Some(Answer::Applied(bytes)) => bytes,
        other => panic!("not applied: {other:?}"),
    }
}

#[tokio::test]
async fn each_of_many_commands_is_answered_with_its_own_answer_whatever_its_length() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let lengths = [0, 1, REQUEST_MAX, REQUEST_MAX + 1, 3 * REQUEST_MAX];
    let commands = (0..5_000_u32).map(|number| {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(4 + if number % 100 == 0 { lengths[number as usize / 100 % 5] } else { 300 }, 7);
        bytes
    });
    let commands: Vec<Vec<u8>> = commands.collect();
    let answers = join_all(commands.iter().map(|bytes| links.forward(M1, command(bytes.clone()))));
    let answers = timeout(LIMIT, answers).await.unwrap();
    assert!(answers.into_iter().map(applied).eq(commands));
}

#[tokio::test]
async fn one_that_takes_long_holds_up_no_other() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let hang = join_all((1..SERVED_MAX).map(|_| links.forward(M1, command(HANGS))));
    let others = async {
        // After those that hang.
        sleep(Duration::from_millis(50)).await;
        for number in 0..100_u8 {
            assert_eq!(applied(links.forward(M1, command([number])).await), [number]);
        }
    };
    tokio::select! {
        hung = hang => panic!("answered: {hung:?}"),
        through = timeout(LIMIT, others) => through.unwrap(),
    }
}

#[tokio::test]
async fn commands_to_a_manager_that_is_killed_are_told_as_reset_and_the_next_go_to_its_successor() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    assert_eq!(applied(links.forward(M1, command("first")).await), b"first");
    let under_way = join_all((0..100).map(|_| links.forward(M1, command(HANGS))));
    let kill = async {
        sleep(Duration::from_millis(50)).await;
        m1.shutdown.cancel();
    };
    // Far less than a call may take.
    let (told, ()) = timeout(Duration::from_secs(5), async { tokio::join!(under_way, kill) }).await.unwrap();
    assert!(told.iter().all(|answer| matches!(answer, Err(LinkError::Reset(_)))), "{told:?}");

    let successor = start_manager(&ca, &manager(1)).await;
    links.set_addresses(M1, vec![(Network::Management, successor.address)]);
    assert_eq!(applied(links.forward(M1, command("second")).await), b"second");
}

#[tokio::test]
async fn the_places_of_those_that_are_never_done_come_free() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let hung = join_all((0..SERVED_MAX).map(|_| links.forward(M1, command(HANGS)))).await;
    let gave_up = |answer: &Result<proto::ForwardResponse, LinkError>| match answer {
        Err(LinkError::Timeout(_)) => true,
        Ok(answer) => matches!(answer.response, Some(Answer::Failed(_))),
        Err(_) => false,
    };
    assert!(hung.iter().all(gave_up), "{hung:?}");
    let next = async { while !links.forward(M1, command("next")).await.is_ok_and(|answer| !gave_up(&Ok(answer))) {} };
    timeout(2 * LIMIT, next).await.expect("all places were taken, and are free again");
}

/// A manager of before there were streams of commands, which serves nothing but forwarded requests.
struct Earlier;

#[async_trait]
impl PeerService for Earlier {
    type AppendStreamStream = BoxStream<'static, Result<proto::RaftBody, Status>>;
    type ForwardStreamStream = BoxStream<'static, Result<proto::ForwardResponses, Status>>;
    type EvidenceStream = BoxStream<'static, Result<proto::EvidenceFrame, Status>>;

    async fn append_stream(
        &self,
        _: Request<Streaming<proto::RaftBody>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn append(&self, _: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn vote(&self, _: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn pre_vote(&self, _: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn transfer_leader(&self, _: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn snapshot(&self, _: Request<Streaming<proto::RaftBody>>) -> Result<Response<proto::RaftBody>, Status> {
        Err(Status::unimplemented("no Raft here"))
    }

    async fn evidence(
        &self,
        _: Request<Streaming<proto::EvidenceFrame>>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        Err(Status::unimplemented("no evidence here"))
    }

    async fn forward(
        &self,
        request: Request<proto::ForwardRequest>,
    ) -> Result<Response<proto::ForwardResponse>, Status> {
        PeerInfo::of(&request).manager()?;
        let Some(Forwarded::Command(bytes)) = request.into_inner().request else {
            return Err(Status::unimplemented("commands only"));
        };
        Ok(Response::new(proto::ForwardResponse { response: Some(Answer::Applied(bytes)) }))
    }

    async fn forward_stream(
        &self,
        _: Request<Streaming<proto::ForwardRequests>>,
    ) -> Result<Response<Self::ForwardStreamStream>, Status> {
        // As tonic answers a call that a service does not have.
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn a_manager_of_an_earlier_version_is_called_for_each_command() {
    let ca = authority();
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = server_config(&identity(&ca, &manager(1)), clock()).unwrap();
    let router = server().add_service(PeerServiceServer::from_arc(Arc::new(Earlier)));
    tokio::spawn(serve(vec![(Some(Network::Management), listener)], tls.into(), router, CancellationToken::new()));
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, address)]);
    for number in 0..100_u8 {
        let answer = timeout(LIMIT, links.forward(M1, command([number]))).await.unwrap();
        assert_eq!(applied(answer), [number]);
    }
}
