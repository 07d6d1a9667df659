import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Properties;
import org.eclipse.dataspacetck.core.system.ConsoleMonitor;
import org.eclipse.dataspacetck.dsp.system.DspSystemLauncher;
import org.eclipse.dataspacetck.runtime.TckRuntime;

/**
 * Runs the conformance kit with the settings of a properties file. What it prints is judged by the program that started
 * it; the lines that begin with "kit:" are ours, the others the kit's own.
 *
 * Usage: java -cp 'LIBRARIES/*' RunKit.java SETTINGS [BEGINNING-OF-A-TEST'S-NAME]
 */
public final class RunKit {
    public static void main(String[] arguments) throws Exception {
        var file = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            file.load(reader);
        }
        var settings = new HashMap<String, String>();
        for (String name : file.stringPropertyNames()) {
            settings.put(name, file.getProperty(name));
        }
        var kit = TckRuntime.Builder.newInstance()
            .launcher(DspSystemLauncher.class)
            .addPackage("org.eclipse.dataspacetck.dsp.verification")
            .properties(settings)
            .monitor(new ConsoleMonitor(false, false));
        if (arguments.length > 1) {
            kit.displayNameMatching(name -> name.startsWith(arguments[1]));
        }
        var summary = kit.build().execute();
        for (var failure : summary.getFailures()) {
            var cause = String.valueOf(failure.getException().getMessage()).replaceAll("\\s+", " ");
            System.out.println("kit: failed " + failure.getTestIdentifier().getDisplayName() + ": " + cause);
        }
        System.out.printf("kit: %d passed, %d failed, %d skipped, %d containers failed%n",
            summary.getTestsSucceededCount(), summary.getTestsFailedCount(), summary.getTestsSkippedCount(),
            summary.getContainersFailedCount());
        System.exit(0);
    }
}
