terraform {
  required_providers { aws = { source = "hashicorp/aws" } }
}
provider "aws" {
  skip_credentials_validation = true
  skip_requesting_account_id  = false
  skip_metadata_api_check     = true
}
resource "aws_iam_role" "r" {
  name               = var.name
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }] })
  tags               = { team = "a" }
}
resource "aws_iam_role_policy_attachment" "logs" {
  role       = aws_iam_role.r.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}
resource "aws_iam_role_policy" "inline" {
  role   = aws_iam_role.r.id
  name   = "call"
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "lambda:InvokeFunction", Resource = "*" }] })
}
resource "aws_lambda_layer_version" "l" {
  layer_name          = var.name
  filename            = var.layer
  compatible_runtimes = ["python3.11"]
}
resource "aws_cloudwatch_log_group" "g" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 7
}
resource "aws_lambda_function" "f" {
  function_name                  = var.name
  filename                       = var.code
  source_code_hash               = filebase64sha256(var.code)
  role                           = aws_iam_role.r.arn
  runtime                        = "python3.11"
  handler                        = "app.handler"
  layers                         = [aws_lambda_layer_version.l.arn]
  publish                        = true
  memory_size                    = 256
  reserved_concurrent_executions = 5
  environment { variables = { MODE = "fast" } }
  logging_config {
    log_format            = "JSON"
    system_log_level      = "INFO"
    application_log_level = "INFO"
  }
  tags       = { a = "b" }
  depends_on = [aws_cloudwatch_log_group.g]
}
resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.f.function_name
  function_version = aws_lambda_function.f.version
}
resource "aws_lambda_permission" "p" {
  statement_id  = "events"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.f.function_name
  principal     = "events.amazonaws.com"
  source_arn    = "arn:aws:events:us-east-1:000000000000:rule/x"
}
resource "aws_lambda_function_url" "u" {
  function_name      = aws_lambda_function.f.function_name
  authorization_type = "NONE"
  cors { allow_origins = ["*"] }
}
resource "aws_lambda_function_event_invoke_config" "e" {
  function_name          = aws_lambda_function.f.function_name
  maximum_retry_attempts = 1
}
resource "aws_lambda_provisioned_concurrency_config" "pc" {
  function_name                     = aws_lambda_function.f.function_name
  qualifier                         = aws_lambda_alias.live.name
  provisioned_concurrent_executions = 1
}
data "aws_lambda_invocation" "i" {
  function_name = aws_lambda_function.f.function_name
  input         = jsonencode({ n = 1 })
}
output "said" { value = data.aws_lambda_invocation.i.result }
output "url" { value = aws_lambda_function_url.u.function_url }
variable "name" {}
variable "code" {}
variable "layer" {}
