// Servlets in Tomcat and Jetty that say in the header X-Read which topic they were asked for.
// Usage: java -cp 'classes:jars/*' Readers FIRST_PORT; the ports are those of readers.py.

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.nio.file.Files;
import java.util.function.Consumer;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.http.UriCompliance;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

public class Readers {
    static class Exact extends HttpServlet {
        protected void service(HttpServletRequest request, HttpServletResponse response) {
            response.setHeader("X-Read", "admin");
        }
    }

    static class All extends HttpServlet {
        protected void service(HttpServletRequest request, HttpServletResponse response) {
            String info = request.getPathInfo();
            String path = request.getServletPath() + (info == null ? "" : info);
            response.setHeader("X-Read", topic(path, request.getParameter("room")));
        }
    }

    static String topic(String path, String room) {
        String[] parts = path.split("/", -1);
        int size = parts.length;
        if (size > 2 && parts[size - 1].isEmpty()) size--;
        if (size == 2 && parts[1].equals("ws")) return "admin".equals(room) ? "ws-admin" : "ws";
        if (size < 3 || size > 4 || !parts[1].equals("r") || parts[2].isEmpty()) return "none";
        if (size == 3) return parts[2].equals("admin") ? "admin" : "id";
        return parts[3].equals("keys") ? "keys" : "part";
    }

    static Connector connector(Tomcat tomcat, int port, Consumer<Connector> configure) {
        Connector made = new Connector();
        made.setPort(port);
        made.setProperty("address", "127.0.0.1");
        made.setProperty("maxKeepAliveRequests", "-1");
        configure.accept(made);
        tomcat.getService().addConnector(made);
        return made;
    }

    static void lax(Connector connector) {
        connector.setEncodedSolidusHandling("decode");
        connector.setAllowBackslash(true);
        connector.setProperty("relaxedPathChars", "\"<>[\\]^`{|}");
        connector.setProperty("relaxedQueryChars", "\"<>[\\]^`{|}");
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        java.util.logging.LogManager.getLogManager().reset();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setConnector(connector(tomcat, port, connector -> {}));
        connector(tomcat, port + 1, Readers::lax);
        connector(tomcat, port + 2, connector -> {
            lax(connector);
            connector.setURIEncoding("ISO-8859-1");
            connector.setEncodedSolidusHandling("passthrough");
        });
        var context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "exact", new Exact());
        Tomcat.addServlet(context, "all", new All());
        context.addServletMappingDecoded("/r/admin", "exact");
        context.addServletMappingDecoded("/*", "all");
        tomcat.start();

        Server jetty = new Server();
        int at = port + 3;
        for (UriCompliance compliance : new UriCompliance[] {
                UriCompliance.DEFAULT, UriCompliance.LEGACY, UriCompliance.UNSAFE}) {
            HttpConfiguration configuration = new HttpConfiguration();
            configuration.setUriCompliance(compliance);
            ServerConnector made =
                new ServerConnector(jetty, new HttpConnectionFactory(configuration));
            made.setHost("127.0.0.1");
            made.setPort(at++);
            jetty.addConnector(made);
        }
        ServletContextHandler handler = new ServletContextHandler("/");
        handler.getServletHandler().setDecodeAmbiguousURIs(true);
        handler.addServlet(new ServletHolder(new Exact()), "/r/admin");
        handler.addServlet(new ServletHolder(new All()), "/*");
        jetty.setHandler(handler);
        jetty.start();
        System.out.println("ready");
        System.in.read();
        System.exit(0);
    }
}
