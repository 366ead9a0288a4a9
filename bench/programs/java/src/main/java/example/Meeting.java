package example;

import com.amazonaws.services.lambda.runtime.Context;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Calls meet: each waits until as many are under way as its event says, for 20 seconds at most. */
public class Meeting {
    private final Set<String> together = ConcurrentHashMap.newKeySet();

    public Map<String, Object> handle(Map<String, Integer> event, Context context) throws InterruptedException {
        together.add(context.getAwsRequestId());
        int met = 0;
        for (int tries = 0; met < event.get("calls") && tries < 2_000; tries++) {
            met = Math.max(met, together.size());
            Thread.sleep(10);
        }
        context.getLogger().log("met " + met);
        together.remove(context.getAwsRequestId());
        return Map.of("met", met, "process", ProcessHandle.current().pid(), "thread", Thread.currentThread().getName());
    }
}
