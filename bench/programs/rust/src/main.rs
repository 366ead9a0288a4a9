use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event.as_str() {
        Some("raise") => return Err("no".into()),
        Some("exit") => std::process::exit(3),
        Some("panic") => panic!("at once"),
        Some("sleep") => tokio::time::sleep(std::time::Duration::from_secs(60)).await,
        Some("fill") => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(vec![1; 10_000_000]);
            }
        }
        _ => {}
    }
    println!("called");
    Ok(json!({"event": event, "id": context.request_id, "arn": context.invoked_function_arn}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handler)).await
}
