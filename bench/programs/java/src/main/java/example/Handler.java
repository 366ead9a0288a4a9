package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

public class Handler implements RequestHandler<Object, Object> {
    @Override
    public Object handleRequest(Object event, Context context) {
        if ("raise".equals(event)) {
            throw new IllegalStateException("no");
        }
        if ("exit".equals(event)) {
            System.exit(3);
        }
        if ("sleep".equals(event)) {
            try {
                Thread.sleep(60_000);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
        if ("fill".equals(event)) {
            List<byte[]> kept = new ArrayList<>();
            while (true) {
                kept.add(new byte[10_000_000]);
            }
        }
        System.out.println("called");
        return Map.of("event", event, "id", context.getAwsRequestId(), "arn", context.getInvokedFunctionArn());
    }
}
