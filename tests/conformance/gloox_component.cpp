// A component as gloox's examples write one: run as a process, told all by XMPP_*.
//
// It answers pings by gloox itself, and attaches again after each stream.
// g++ -O1 gloox_component.cpp -lgloox -o gloox_component

#include <cstdlib>
#include <unistd.h>

#include <gloox/component.h>
#include <gloox/connectionlistener.h>
#include <gloox/disco.h>

using namespace gloox;

class Echo : public ConnectionListener {
 public:
  void onConnect() override {}
  void onDisconnect(ConnectionError) override {}
  bool onTLSConnect(const CertInfo&) override { return true; }
};

int main() {
  for (;;) {
    Component component(XMLNS_COMPONENT_ACCEPT, std::getenv("XMPP_HOST"), std::getenv("XMPP_DOMAIN"),
                        std::getenv("XMPP_SECRET"), std::atoi(std::getenv("XMPP_PORT")));
    Echo echo;
    component.registerConnectionListener(&echo);
    component.disco()->setIdentity("component", "generic", "gloox");
    component.connect(true);
    usleep(500000);
  }
}
