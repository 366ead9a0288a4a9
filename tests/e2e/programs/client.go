// What a program with AWS's SDK for Go does with functions; prints what it saw as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func main() {
	ctx, name := context.Background(), aws.String(os.Args[1])
	client := lambda.NewFromConfig(must(config.LoadDefaultConfig(ctx)))
	seen := map[string]any{}
	must(client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: name, Runtime: types.RuntimePython311, Handler: aws.String("app.handler"),
		Role: aws.String("arn:aws:iam::000000000000:role/any"), Code: &types.FunctionCode{ZipFile: must(os.ReadFile(os.Args[2]))},
	}))
	quickly := func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second }
	named := &lambda.GetFunctionInput{FunctionName: name}
	must(0, lambda.NewFunctionActiveV2Waiter(client, quickly).Wait(ctx, named, time.Minute))

	called := must(client.Invoke(ctx, &lambda.InvokeInput{FunctionName: name, Payload: []byte(`{"n": 1}`)}))
	seen["answer"] = json.RawMessage(called.Payload)
	streaming := &lambda.InvokeWithResponseStreamInput{FunctionName: name, Payload: []byte(`{"n": 2}`)}
	stream, text := must(client.InvokeWithResponseStream(ctx, streaming)).GetStream(), ""
	for event := range stream.Events() {
		switch part := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			text += string(part.Value.Payload)
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			seen["complete"] = true
		}
	}
	stream.Close()
	seen["stream"] = text

	listed := []string{}
	pages := lambda.NewListFunctionsPaginator(client, &lambda.ListFunctionsInput{MaxItems: aws.Int32(1)})
	for pages.HasMorePages() {
		for _, function := range must(pages.NextPage(ctx)).Functions {
			listed = append(listed, *function.FunctionName)
		}
	}
	seen["listed"] = listed
	must(client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name}))
	_, err := client.GetFunction(ctx, named)
	var missing *types.ResourceNotFoundException
	seen["missing"] = errors.As(err, &missing)
	fmt.Println(string(must(json.Marshal(seen))))
}
