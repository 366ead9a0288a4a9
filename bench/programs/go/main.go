package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func handler(ctx context.Context, event json.RawMessage) (any, error) {
	var name string
	_ = json.Unmarshal(event, &name)
	switch name {
	case "raise":
		return nil, errors.New("no")
	case "panic":
		panic("at once")
	case "exit":
		os.Exit(3)
	case "sleep":
		time.Sleep(time.Minute)
	case "fill":
		for kept := [][]byte{}; ; {
			kept = append(kept, []byte(strings.Repeat("x", 10_000_000)))
		}
	case "stream":
		return &events.LambdaFunctionURLStreamingResponse{StatusCode: 200, Body: strings.NewReader("streamed")}, nil
	}
	fmt.Println("called")
	lc, _ := lambdacontext.FromContext(ctx)
	return map[string]any{"event": event, "id": lc.AwsRequestID, "arn": lc.InvokedFunctionArn}, nil
}

func main() { lambda.Start(handler) }
