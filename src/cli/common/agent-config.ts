/** The agent's configuration for commands, with what a former version kept elsewhere gone over into it. */
import { adoptFormerOffers } from '../../agent/state/former-offers.js';
import { type AgentConfig, loadAgentConfig } from '../../config/agent-config.js';
import type { CommandContext } from './context.js';

/** @throws StillpointError `config` */
export async function agentConfig(
  context: Pick<CommandContext, 'stateDirectory' | 'configDirectory' | 'output'>,
): Promise<AgentConfig> {
  const { stateDirectory, configDirectory, output } = context;
  const config = await loadAgentConfig(configDirectory);
  const adopted = await adoptFormerOffers(stateDirectory, config);
  if (adopted.length === 0) return config;
  output.note(`${adopted.join(', ')}: now in ${configDirectory}/agent.d`);
  return loadAgentConfig(configDirectory);
}
