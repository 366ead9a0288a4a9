// What a program with AWS's SDK for Java does with functions; prints what it saw as JSON.
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.lambda.model.ResourceNotFoundException;

public class Client {
    public static void main(String[] given) throws Exception {
        String name = given[0];
        SdkBytes archive = SdkBytes.fromByteArray(Files.readAllBytes(Path.of(given[1])));
        try (LambdaClient client = LambdaClient.builder().httpClient(UrlConnectionHttpClient.create()).build()) {
            client.createFunction(function -> function.functionName(name).runtime("python3.11").handler("app.handler")
                    .role("arn:aws:iam::000000000000:role/any").code(code -> code.zipFile(archive)));
            client.waiter().waitUntilFunctionActiveV2(function -> function.functionName(name));
            String answer = client.invoke(call -> call.functionName(name).payload(SdkBytes.fromUtf8String("{\"n\": 1}")))
                    .payload().asUtf8String();
            List<String> listed = client.listFunctionsPaginator(page -> page.maxItems(1)).functions().stream()
                    .map(each -> '"' + each.functionName() + '"').collect(Collectors.toList());
            client.deleteFunction(function -> function.functionName(name));
            boolean missing = false;
            try {
                client.getFunction(function -> function.functionName(name));
            } catch (ResourceNotFoundException error) {
                missing = true;
            }
            System.out.println("{\"answer\": " + answer + ", \"listed\": " + listed + ", \"missing\": " + missing + "}");
        }
    }
}
