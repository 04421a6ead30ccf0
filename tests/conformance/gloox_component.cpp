// A component as gloox's documentation writes one: run as a process, told all by XMPP_*.
//
// It answers service discovery, version and pings by gloox itself, and ends with its stream. Built by
//     g++ -o gloox_component gloox_component.cpp -lgloox

#include <gloox/component.h>
#include <gloox/connectionlistener.h>
#include <gloox/disco.h>
#include <gloox/message.h>
#include <gloox/messagehandler.h>

#include <cstdlib>
#include <string>

class Echo : public gloox::ConnectionListener, public gloox::MessageHandler {
 public:
  explicit Echo(gloox::Component& component) : component_(component) {}

  void onConnect() override {}
  void onDisconnect(gloox::ConnectionError) override {}
  bool onTLSConnect(const gloox::CertInfo&) override { return true; }

  void handleMessage(const gloox::Message& message, gloox::MessageSession*) override {
    if (message.subtype() == gloox::Message::Error || message.body().empty()) return;
    gloox::Message reply(message.subtype(), message.from(), message.body());
    reply.setFrom(message.to());
    component_.send(reply);
  }

 private:
  gloox::Component& component_;
};

int main() {
  gloox::Component component("jabber:component:accept", std::getenv("XMPP_HOST"),
                             std::getenv("XMPP_DOMAIN"), std::getenv("XMPP_SECRET"),
                             std::atoi(std::getenv("XMPP_PORT")));
  Echo echo(component);
  component.registerConnectionListener(&echo);
  component.registerMessageHandler(&echo);
  component.disco()->setVersion("gloox echo", "1");
  component.connect();
}
