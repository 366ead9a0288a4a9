use lambda_runtime::streaming::{channel, Body, Response};
use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};
use std::time::Duration;

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event.as_str() {
        Some("raise") => return Err("no".into()),
        Some("exit") => std::process::exit(3),
        Some("panic") => panic!("at once"),
        Some("fill") => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(vec![1; 10_000_000]);
            }
        }
        Some("sleep") => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    println!("called");
    Ok(json!({"event": event, "id": context.request_id, "arn": context.invoked_function_arn}))
}

async fn streamed(_: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    let (mut sender, body) = channel();
    tokio::spawn(async move {
        let _ = sender.send_data("first".into()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = sender.send_data("then".into()).await;
    });
    Ok(Response::from(body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("_HANDLER").as_deref() {
        Ok("streamed") => run(service_fn(streamed)).await,
        _ => run(service_fn(handler)).await,
    }
}
